//! Windows and periods by the wall clock: changes of the clocks, ends of months, other zones.

use pricing::{Payer, Tokens};

use crate::{at, version};

const ANYBODY: Payer<'static> =
    Payer { customer: "c", distributor: None, plan: None, pipeline: None, step: None };

/// Dear inside the window, cheap outside.
fn file(zone: &str, window: &str) -> String {
    format!(
        "currency: CNY\ntime_zone: {zone}\nrules:\n\
         - {{model: m, window: {window}, rates: {{input_per_million: '1000000', output_per_million: '0'}}}}\n\
         - {{model: m, rates: {{input_per_million: '0', output_per_million: '0'}}}}\n"
    )
}

fn inside(text: &str, time: &str) -> bool {
    let quote = version(text).quote("m", &ANYBODY, at(time)).unwrap();
    quote.charge(&Tokens { input: 1, ..Tokens::default() }).unwrap().is_positive()
}

#[test]
fn a_window_is_half_open_and_in_the_business_time_zone() {
    let text = file("Asia/Shanghai", "{days: [wed], from: '09:00', until: '18:00'}");
    for (time, expected) in [
        ("2026-11-18T00:59:59.999999Z", false),
        ("2026-11-18T01:00:00Z", true),
        ("2026-11-18T09:59:59.999999Z", true),
        ("2026-11-18T10:00:00Z", false),
        ("2026-11-19T02:00:00Z", false),
    ] {
        assert_eq!(inside(&text, time), expected, "{time}");
    }
}

#[test]
fn an_hour_that_is_left_out_never_comes_and_a_repeated_one_counts_twice() {
    // 2026-03-29 in Berlin: 02:00 becomes 03:00. 2026-10-25: 03:00 becomes 02:00.
    let night = file("Europe/Berlin", "{from: '02:00', until: '03:00'}");
    assert!(!inside(&night, "2026-03-29T00:59:59Z"), "01:59:59");
    assert!(!inside(&night, "2026-03-29T01:00:00Z"), "03:00:00");
    assert!(inside(&night, "2026-10-25T00:30:00Z"), "02:30 for the first time");
    assert!(inside(&night, "2026-10-25T01:30:00Z"), "02:30 for the second time");
    assert!(!inside(&night, "2026-10-25T02:00:00Z"), "03:00");
    let over_midnight = file("Europe/Berlin", "{days: [sat], from: '23:00', until: '02:30'}");
    assert!(inside(&over_midnight, "2026-03-28T22:00:00Z"), "Saturday 23:00");
    assert!(inside(&over_midnight, "2026-03-29T00:59:59Z"), "Sunday 01:59:59");
    assert!(!inside(&over_midnight, "2026-03-29T01:00:00Z"), "Sunday 03:00:00");
}

#[test]
fn a_window_whose_end_or_beginning_is_left_out_is_as_long_as_the_clock_shows() {
    // 2026-04-24 in Cairo: 00:00 becomes 01:00. 2026-10-29: 24:00 becomes 23:00.
    let cairo = |window: &str| file("Africa/Cairo", window);
    let until = cairo("{days: [thu], from: '23:00', until: '00:30'}");
    assert!(inside(&until, "2026-04-23T21:59:59Z"), "Thursday 23:59:59");
    assert!(!inside(&until, "2026-04-23T22:00:00Z"), "Friday 01:00:00, never 00:15");
    let from = cairo("{days: [fri], from: '00:00', until: '02:00'}");
    assert!(!inside(&from, "2026-04-23T21:59:59Z"));
    assert!(inside(&from, "2026-04-23T22:00:00Z"), "Friday begins at 01:00");
    assert!(!inside(&from, "2026-04-23T23:00:00Z"), "Friday 02:00");
    let late = cairo("{days: [thu], from: '23:00', until: '00:00'}");
    for (time, expected) in [
        ("2026-10-29T19:59:59Z", false),
        ("2026-10-29T20:00:00Z", true),
        ("2026-10-29T20:59:59Z", true),
        ("2026-10-29T21:00:00Z", true),
        ("2026-10-29T21:59:59Z", true),
        ("2026-10-29T22:00:00Z", false),
    ] {
        assert_eq!(inside(&late, time), expected, "{time}: 23 o'clock comes twice");
    }
}

#[test]
fn a_window_over_the_end_of_a_month_or_year_is_one() {
    let night = file("Asia/Shanghai", "{days: [sat, wed, thu], from: '22:00', until: '06:00'}");
    for (time, expected) in [
        // Saturday 2026-02-28 to Sunday 2026-03-01.
        ("2026-02-28T13:59:59Z", false),
        ("2026-02-28T14:00:00Z", true),
        ("2026-02-28T16:00:00Z", true),
        ("2026-02-28T21:59:59Z", true),
        ("2026-02-28T22:00:00Z", false),
        // Thursday 2026-12-31 to Friday 2027-01-01.
        ("2026-12-31T15:59:59Z", true),
        ("2026-12-31T16:00:00Z", true),
        ("2026-12-31T22:00:00Z", false),
        // Tuesday 2028-02-29 does not count, Wednesday 2028-03-01 does.
        ("2028-02-29T15:00:00Z", false),
        ("2028-03-01T15:00:00Z", true),
    ] {
        assert_eq!(inside(&night, time), expected, "{time}");
    }
}

#[test]
fn days_of_23_and_25_hours_are_one_period_each() {
    let text = "currency: CNY\ntime_zone: Europe/Berlin\nrules: [{model: m, prices: [\
        {class: input, price: '1', period: day}, {class: output, price: '1'}]}]";
    let version = version(text);
    let mut hours = std::collections::BTreeMap::<String, u32>::new();
    for first in ["2026-03-28T00:00:00Z", "2026-10-24T00:00:00Z"] {
        for hour in 0..72 {
            let time = kernel::Timestamp::from_micros(at(first).micros() + hour * 3_600_000_000);
            let quote = version.quote("m", &ANYBODY, time).unwrap();
            *hours.entry(quote.used()[0].period.clone()).or_default() += 1;
        }
    }
    assert_eq!((hours["2026-03-29"], hours["2026-10-25"]), (23, 25));
}

#[test]
fn all_of_a_week_is_covered_by_windows_that_follow_each_other() {
    let rates = "rates: {input_per_million: '1', output_per_million: '1'}";
    let text = format!(
        "currency: CNY\nrules:\n\
         - {{model: m, window: {{from: '08:00', until: '20:00'}}, {rates}}}\n\
         - {{model: m, window: {{from: '20:00', until: '08:00'}}, {rates}}}\n"
    );
    let version = version(&text);
    for hour in 0..168 {
        let time = kernel::Timestamp::from_micros(1_795_000_000_000_000 + hour * 3_600_000_000);
        assert!(version.quote("m", &ANYBODY, time).is_some(), "{time}");
    }
}

#[test]
fn days_and_months_end_by_the_clock_of_the_zone() {
    let text = "currency: CNY\ntime_zone: Asia/Shanghai\nrules: [{model: m, prices: [\
        {class: input, price: '1', period: month}, {class: output, price: '1', period: day}]}]";
    let version = version(text);
    for (time, month, day) in [
        ("2026-01-31T15:59:59.999999Z", "2026-01", "2026-01-31"),
        ("2026-01-31T16:00:00Z", "2026-02", "2026-02-01"),
        ("2028-02-29T15:59:59Z", "2028-02", "2028-02-29"),
        ("2028-02-29T16:00:00Z", "2028-03", "2028-03-01"),
        ("2026-12-31T16:00:00Z", "2027-01", "2027-01-01"),
    ] {
        let quote = version.quote("m", &ANYBODY, at(time)).unwrap();
        let periods: Vec<&str> = quote.used().iter().map(|used| used.period.as_str()).collect();
        assert_eq!(periods, [month, day], "{time}");
    }
}

#[test]
fn a_quote_depends_on_its_time_alone_so_a_clock_that_steps_back_gives_the_earlier_price() {
    let text = file("UTC", "{from: '12:00', until: '13:00'}");
    let order = ["2026-11-18T12:00:00Z", "2026-11-18T11:59:59.999999Z", "2026-11-18T12:00:00Z"];
    assert_eq!(order.map(|time| inside(&text, time)), [true, false, true]);
    assert!(!inside(&text, "1969-07-20T20:17:40Z"), "also before 1970");
}
