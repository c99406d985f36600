//! Providers that go by the descriptions of a server that is followed.

use models::{
    ModelConfig, Models, NoWay, ProviderConfig, ProviderKind, RouteConfig, RoutingConfig,
    UapiConfig, UapiMode, UapiRow, UapiStep,
};
use serde_json::{Value, json};

fn provider(uapi: UapiConfig) -> ProviderConfig {
    let base_url = "https://upstream.example.com";
    ProviderConfig {
        uapi: Some(uapi),
        ..ProviderConfig::new("followed", ProviderKind::Uapi, base_url)
    }
}

fn following(cached: &str, query: &str) -> UapiConfig {
    UapiConfig {
        cached: cached.to_owned(),
        cached_query: query.to_owned(),
        ..UapiConfig::default()
    }
}

fn models(uapi: UapiConfig) -> Models {
    let sim = ProviderConfig::new("sim", ProviderKind::Sim, "");
    let mut both = ModelConfig::new("both", "followed", None);
    let lower = ModelConfig::new("both", "sim", None).routes.remove(0);
    both.routes.push(RouteConfig { priority: 1, ..lower });
    let only = ModelConfig::new("only", "followed", None);
    Models::new(&[provider(uapi), sim], &[only, both], &RoutingConfig::default()).unwrap()
}

fn row(id: &str, data: &Value) -> UapiRow {
    UapiRow { id: id.to_owned(), data: data.to_string() }
}

fn good() -> Value {
    json!({"id": "1", "name": "answers", "stream": "none", "path": "/answer", "httpmethod": "post",
        "headers": null, "params": "", "data": "{}", "response": "{\"content\": \"x\"}",
        "need_auth": "1", "upappid": "u", "baseurl": "http://169.254.169.254/"})
}

/// Why the provider cannot be called, and the provider that a model with another route goes to.
fn stands(models: &Models) -> (String, String) {
    let trouble = models.provider("followed").unwrap().trouble().unwrap_or_default();
    let mut search = models.find("both").unwrap().search();
    (trouble, search.take().unwrap().route().provider().name().to_string())
}

#[test]
fn a_provider_is_called_while_its_description_is_there_and_valid() {
    let models = models(following("answers", ""));
    assert!(models.follow_descriptions());
    let unheard = ("no description \"answers\" was heard of yet".to_owned(), "sim".to_owned());
    assert_eq!(stands(&models), unheard);
    let only = models.find("only").unwrap();
    assert_eq!((only.search().take().is_none(), only.search().no_way()), (true, NoWay::Off));
    models.describe(&[row("1", &good()), row("2", &json!({"name": "other"}))]);
    assert_eq!(stands(&models), (String::new(), "followed".to_owned()));
    let mut broken = good();
    broken["data"] = "{{ messages[".into();
    models.describe(&[row("1", &broken)]);
    let (trouble, way) = stands(&models);
    assert!(trouble.contains("answers") && trouble.contains("call.data"), "{trouble}");
    assert_eq!(way, "sim", "what was valid before is not gone by any more");
    models.describe(&[row("1", &good())]);
    assert_eq!(stands(&models).1, "followed");
    models.describe(&[]);
    let gone = ("the upstream has no description \"answers\"".to_owned(), "sim".to_owned());
    assert_eq!(stands(&models), gone);
}

#[test]
fn what_is_wrong_with_a_description_is_told() {
    let changed = |name: &str, value: Value| {
        let mut data = good();
        data[name] = value;
        data
    };
    let cases = [
        (changed("path", Value::Null), "does not share"),
        (changed("path", 5.into()), "cannot be read"),
        (changed("stream", "sometimes".into()), "cannot be read"),
        (changed("stream", "async".into()), "mode async without query"),
        (changed("httpmethod", "CONNECT".into()), "call.method"),
        (changed("httpmethod", "GET IT".into()), "call.method"),
        (changed("response", "{% include 'x' %}".into()), "call.response"),
        (changed("data", "x".repeat(65 * 1024).into()), "call.data"),
        (json!([]), "has no description"),
    ];
    let models = models(following("answers", ""));
    for (data, expected) in cases {
        models.describe(&[row("x", &good())]);
        models.describe(&[row("1", &data)]);
        let (trouble, way) = stands(&models);
        assert!(trouble.contains(expected) && way == "sim", "{expected}: {trouble}");
    }
}

#[test]
fn a_description_is_named_by_its_id_or_by_a_name_that_only_it_has() {
    let rows = [row("1", &good()), row("2", &good()), row("answers too", &good())];
    let models = models(following("answers", ""));
    models.describe(&rows);
    assert!(stands(&models).0.contains("several"), "{:?}", stands(&models));
    for id in ["2", "answers too"] {
        let models = self::models(following(id, ""));
        models.describe(&rows);
        assert_eq!(stands(&models).0, "");
    }
}

#[test]
fn what_one_server_shares_another_can_follow() {
    let step = |path: &str| UapiStep { path: path.to_owned(), ..UapiStep::default() };
    let mut written = UapiConfig {
        mode: Some(UapiMode::Async),
        call: Some(step("/tasks")),
        query: Some(step("/tasks/{{ taskid }}")),
        ..UapiConfig::default()
    };
    assert_eq!(written.shared("tasks"), [], "unless the operator says so");
    written.share = true;
    let rows: Vec<UapiRow> =
        written.shared("tasks").iter().map(|(id, data)| row(id, data)).collect();
    let models = models(following("tasks", "tasks:query"));
    models.describe(&rows);
    assert_eq!(stands(&models), (String::new(), "followed".to_owned()));
    models.describe(rows.get(..1).unwrap());
    assert!(stands(&models).0.contains("tasks:query"));
    assert_eq!(following("tasks", "tasks:query").shared("followed"), []);
}

#[test]
fn a_configuration_that_says_it_twice_or_not_at_all_is_refused() {
    let wrong = [
        (UapiConfig::default(), "uapi.call"),
        (following("", "query"), "uapi.cached_query without cached"),
        (UapiConfig { mode: Some(UapiMode::Sync), ..following("a", "") }, "uapi.cached beside"),
        (
            UapiConfig { call: Some(UapiStep::default()), ..following("a", "") },
            "uapi.cached beside",
        ),
    ];
    for (uapi, expected) in wrong {
        let refused = Models::new(&[provider(uapi)], &[], &RoutingConfig::default()).unwrap_err();
        assert!(refused.to_string().contains(expected), "{refused}");
    }
}
