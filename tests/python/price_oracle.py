"""An oracle for charges: docs/prices.md in exact fractions, written apart from the code it checks.

Run as a program it prints the golden vectors of crates/pricing/tests/golden/charges.json.
"""

import datetime
import itertools
import json
import math
import random
import zoneinfo
from fractions import Fraction as F

CLASSES = [
    "input", "cached_input", "cache_write", "output", "reasoning", "input_audio", "input_image", "output_audio",
    "output_image", "call",
]
TEXT, MEDIA = CLASSES[:5], CLASSES[5:9]
PARENT = {
    "cached_input": "input", "cache_write": "input", "input_audio": "input", "input_image": "input",
    "reasoning": "output", "output_audio": "output", "output_image": "output",
}
READ = ["input", "cached_input", "cache_write", "input_audio", "input_image"]
DAYS = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
RATES = {
    "input": "input_per_million", "cached_input": "cached_input_per_million",
    "cache_write": "cache_write_per_million", "output": "output_per_million",
    "reasoning": "reasoning_per_million",
}


def minute(text):
    return int(text[:2]) * 60 + int(text[3:])


def open_at(window, now):
    """Whether the wall clock is inside: a window over midnight belongs to the day it begins on."""
    begin, end, clock = minute(window["from"]), minute(window["until"]), now.hour * 60 + now.minute
    days = window.get("days", DAYS)
    today, yesterday = DAYS[now.weekday()], DAYS[now.weekday() - 1]
    if begin < end:
        return today in days and begin <= clock < end
    return today in days and clock >= begin or yesterday in days and clock < end


def items_of(rule):
    if "prices" in rule:
        return rule["prices"]
    rates = rule["rates"]
    return [{"class": name, "price": rates[key]} for name, key in RATES.items() if key in rates]


def item_cost(item, before, units):
    free = item.get("free", 0)
    first, last = max(before - free, 0), max(before + units - free, 0)
    per = item.get("per", 1 if item["class"] == "call" else 1_000_000)
    if "price" in item:
        return (last - first) * F(item["price"]) / per
    if "package" in item:
        size = item["package"]["size"]
        return (math.ceil(F(last, size)) - math.ceil(F(first, size))) * F(item["package"]["price"])
    if "volume" in item:
        tier = next(tier for tier in item["volume"] if last <= tier.get("up_to", math.inf))
        return (last - first) * F(tier["price"]) / per
    cost, low = F(0), 0
    for tier in item["graduated"]:
        high = tier.get("up_to", max(last, low))
        cost += max(0, min(high, last) - max(low, first)) * F(tier["price"]) / per
        low = high
    return cost


def listed(item):
    return item["class"] if isinstance(item["class"], list) else [item["class"]]


def rule_cost(rule, tokens, used):
    items = items_of(rule)
    home = {name: at for at, item in enumerate(items) for name in listed(item)}
    counts = [0] * len(items)
    for name in CLASSES:
        at = home.get(name, home.get(PARENT.get(name)))
        if at is not None:
            counts[at] += 1 if name == "call" else tokens.get(name, 0)
    cost = F(rule.get("per_call", 0)) + F(rule.get("rates", {}).get("per_call", 0))
    for item, units in zip(items, counts):
        counter = item.get("counter")
        if counter is None and "period" in item:
            names = [name for name in CLASSES if name in listed(item)]
            counter = f"{rule['model']}/{'+'.join(names)}/{item['period']}"
        cost += item_cost(item, used.get(counter, 0), units)
    cost = max(cost, F(rule.get("minimum", 0)))
    return min(cost, F(rule["maximum"])) if "maximum" in rule else cost


def places(case):
    """Where a call is made, the narrowest place first: outside of runs, anywhere alone."""
    pipeline, step = case.get("pipeline"), case.get("step")
    return ([(pipeline, step)] if pipeline and step else []) + ([(pipeline, None)] if pipeline else []) + [(None, None)]


def charge(case):
    """The charge in billionths."""
    file, tokens = case["file"], case["tokens"]
    zone = zoneinfo.ZoneInfo(file.get("time_zone", "UTC"))
    now = datetime.datetime.fromisoformat(case["at"]).astimezone(zone)
    read = sum(tokens.get(name, 0) for name in READ)
    share = F(1)
    for kind, place in itertools.product(("customer", "distributor", "plan", None), places(case)):
        if kind and not case.get(kind):
            continue
        own = [
            rule for rule in file["rules"] if rule["model"] == "m" and (rule.get("pipeline"), rule.get("step")) == place
            and (rule.get(kind) == case[kind] if kind else not {"customer", "distributor", "plan"} & rule.keys())
        ]
        timed = [rule for rule in own if "window" in rule and open_at(rule["window"], now)]
        for rule in timed or [rule for rule in own if "window" not in rule]:
            tier = rule.get("context", {})
            if (tier.get("over", 0) < read or not tier.get("over", 0)) and read <= tier.get("up_to", math.inf):
                if "percent" not in rule:
                    return math.ceil(rule_cost(rule, tokens, case["used"]) * share * 10**9)
                share *= F(rule["percent"]) / 100
    raise AssertionError("no rule")


def decimal(nanos):
    whole, rest = divmod(nanos, 10**9)
    return f"{whole}.{rest:09}".rstrip("0").rstrip(".")


LAYOUTS = [
    ["input", "output"], [["input", "output"]], ["input", "cached_input", "output", "call"],
    [["input", "cache_write"], "output", "reasoning", "call"],
]
MEDIA_LAYOUTS = [
    ["input", "input_audio", "output", "output_audio"], ["input", "input_image", "cached_input", "output", "output_image"],
    [["input", "input_image"], ["input_audio", "output_audio"], "output"], ["input", "output", "call"],
]

PLACES = [{}, {"pipeline": "f"}, {"pipeline": "f", "step": "s"}]


def price(rng):
    return rng.choice(["0", "0.000000001", "0.02", "2", "8.5", "31.4159", "199.99", "0.123456789"])


def pricing(rng):
    kind = rng.choice(["price", "graduated", "volume", "package"])
    if kind == "price":
        return {"price": price(rng)}
    if kind == "package":
        return {"package": {"size": rng.choice([1, 7, 1000, 1_000_000]), "price": price(rng)}}
    steps = sorted(rng.sample(range(1, 3_000_000), rng.randrange(3)))
    return {kind: [{"up_to": step, "price": price(rng)} for step in steps] + [{"price": price(rng)}]}


def form(rng, layouts=LAYOUTS):
    if rng.random() < 0.25:
        names = ["input_per_million", "output_per_million"] + [name for name in RATES.values() if rng.random() < 0.5]
        return {"rates": {name: price(rng) for name in names}}
    items = []
    for name in rng.choice(layouts):
        item = {"class": name, **pricing(rng)}
        if rng.random() < 0.3:
            item["free"] = rng.choice([1, 500, 1_000_000])
        if rng.random() < 0.5:
            item["period"] = rng.choice(["day", "month"])
        if "package" not in item and rng.random() < 0.4:
            item["per"] = rng.choice([1, 1000, 10_000, 3])
        items.append(item)
    rule = {"prices": items}
    for name in ("per_call", "minimum"):
        if rng.random() < 0.3:
            rule[name] = price(rng)
    if rng.random() < 0.3:
        rule["maximum"] = "200"
    return rule


def rules(rng, scope, layouts=LAYOUTS):
    share = scope and rng.random() < 0.5
    made = []
    for window in [None] + ([{"days": ["mon", "wed"], "from": "21:00", "until": "06:30"}] if rng.random() < 0.4 else []):
        bounds = [0] + sorted(rng.sample([1000, 32_000, 128_000, 1_000_000], rng.randrange(3)))
        for over, up_to in zip(bounds, bounds[1:] + [None]):
            tier = {**({"over": over} if over else {}), **({"up_to": up_to} if up_to else {})}
            body = {"percent": rng.choice(["85", "120", "33.3333", "0.0001"])} if share else form(rng, layouts)
            made.append({"model": "m", **scope, **({"window": window} if window else {}),
                         **({"context": tier} if tier else {}), **body})
    return made


def random_case(rng, layouts=LAYOUTS, classes=TEXT, places=({},)):
    scopes = [{}] + [scope for scope in ({"customer": "c"}, {"distributor": "d"}, {"plan": "p"}) if rng.random() < 0.4]
    scopes = [{**scope, **place} for scope in scopes for place in places if not place or rng.random() < 0.5]
    zone = rng.choice(["UTC", "Asia/Shanghai", "Europe/Berlin", "America/St_Johns"])
    file = {"currency": "CNY", "time_zone": zone, "rules": [rule for scope in scopes for rule in rules(rng, scope, layouts)]}
    at = datetime.datetime(2026, 10, 24, tzinfo=datetime.timezone.utc) + datetime.timedelta(minutes=rng.randrange(10_080))
    size = rng.choice([1, 900, 50_000, 2_000_000])
    tokens = {name: rng.randrange(size + 1) for name in classes if rng.random() < 0.8}
    case = {"file": file, "at": at.isoformat().replace("+00:00", "Z"), "customer": rng.choice(["c", "other"]),
            "distributor": rng.choice(["d", None]), "plan": rng.choice(["p", None]), "tokens": tokens, "used": {}}
    for rule in file["rules"]:
        for item in rule.get("prices", []):
            if "period" in item:
                names = [name for name in CLASSES if name in listed(item)]
                case["used"][f"m/{'+'.join(names)}/{item['period']}"] = rng.choice([0, 1, 999, 1_500_000])
    if len(places) > 1:
        case["pipeline"], case["step"] = rng.choice([("f", "s"), ("f", "s"), ("f", "other"), ("other", "s"), (None, None)])
    return case


def main():
    rng = random.Random(20261121)
    cases = [random_case(rng) for _ in range(80)]
    # Of their own chance, so that those before stay as they are.
    rng = random.Random(20261122)
    cases += [random_case(rng, MEDIA_LAYOUTS, TEXT + MEDIA) for _ in range(40)]
    rng = random.Random(20261123)
    cases += [random_case(rng, places=PLACES) for _ in range(40)]
    lines = [json.dumps({**case, "amount": decimal(charge(case))}, separators=(",", ":")) for case in cases]
    print("[\n" + ",\n".join(lines) + "\n]")


if __name__ == "__main__":
    main()
