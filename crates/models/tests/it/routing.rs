//! Which way a call goes, and when none is open.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use models::{
    CallError, ConfigError, Model, ModelConfig, ModelKind, Models, NoWay, Phase, Place,
    ProviderConfig, ProviderKind, ProviderState, Refusal, RouteConfig, RoutingConfig, Strategy,
};

fn route(provider: &str, weight: u32, priority: u32) -> RouteConfig {
    RouteConfig { provider: provider.to_owned(), model: None, weight, priority, cost: None }
}

fn model(name: &str, routes: Vec<RouteConfig>) -> ModelConfig {
    ModelConfig { routes, ..ModelConfig::new(name, "a", None) }
}

fn providers() -> Vec<ProviderConfig> {
    ["a", "b", "c"].map(|name| ProviderConfig::new(name, ProviderKind::Sim, "")).into()
}

fn config() -> RoutingConfig {
    RoutingConfig { breaker_failures: 2, breaker_cooldown_ms: 60_000, ..RoutingConfig::default() }
}

fn models(all: &[ModelConfig]) -> Result<Models, ConfigError> {
    Models::new(&providers(), all, &config())
}

fn name(place: &Place) -> String {
    place.route().provider().name().to_string()
}

/// Where so many calls go that are answered at once.
fn firsts(model: &Model, calls: usize) -> Vec<String> {
    (0..calls).map(|_| name(&model.search().take().unwrap())).collect()
}

/// All the ways of one call, in order.
fn all(model: &Model) -> Vec<String> {
    let mut search = model.search();
    std::iter::from_fn(|| search.take().map(|place| name(&place))).collect()
}

fn down() -> CallError {
    CallError::Connect("refused".to_owned())
}

fn refused(status: u16, retry_after: Option<Duration>) -> CallError {
    CallError::Refused(Box::new(Refusal { status, body: Bytes::new(), retry_after }))
}

/// The route whose turn it is fails in so many calls.
fn fail(model: &Model, calls: usize, error: &CallError) {
    for _ in 0..calls {
        model.search().take().unwrap().failed(error);
    }
}

#[test]
fn routes_take_turns_by_weight_and_higher_priority_numbers_come_last() {
    let models =
        models(&[model("m", vec![route("c", 1, 9), route("a", 3, 0), route("b", 1, 0)])]).unwrap();
    let model = models.find("m").unwrap();
    assert_eq!(firsts(model, 8), ["a", "a", "a", "b", "a", "a", "a", "b"]);
    assert_eq!(all(model), ["a", "b", "c"]);
}

#[test]
fn a_route_without_weight_is_asked_when_no_other_is_left() {
    let models = models(&[model("m", vec![route("a", 0, 0), route("b", 1, 0)])]).unwrap();
    let model = models.find("m").unwrap();
    assert_eq!(firsts(model, 3), ["b", "b", "b"]);
    models.provider("b").unwrap().set_state(ProviderState::Draining);
    assert_eq!(firsts(model, 2), ["a", "a"]);
}

#[test]
fn a_route_that_fails_again_and_again_is_left_out_and_every_model_knows() {
    let models = models(&[
        model("m", vec![route("a", 1, 0), route("b", 1, 1)]),
        ModelConfig {
            routes: vec![RouteConfig { model: Some("m".to_owned()), ..route("a", 1, 0) }],
            ..model("alias", vec![])
        },
        model("other", vec![route("a", 1, 0)]),
    ])
    .unwrap();
    let one = models.find("m").unwrap();
    fail(one, 2, &down());
    assert_eq!(firsts(one, 2), ["b", "b"]);
    let mut alias = models.find("alias").unwrap().search();
    assert!(alias.take().is_none());
    assert!(matches!(alias.no_way(), NoWay::Resting(rest) if rest > Duration::from_secs(50)));
    assert_eq!(firsts(models.find("other").unwrap(), 1), ["a"], "another model there is well");
    let states = models.routes_to(models.provider("a").unwrap());
    let closed: Vec<bool> = states.iter().map(|state| state.closed).collect();
    assert_eq!(closed, [false, false, true]);
}

#[test]
fn what_the_caller_does_wrong_shuts_nothing() {
    let models = models(&[model("m", vec![route("a", 1, 0)])]).unwrap();
    let model = models.find("m").unwrap();
    fail(model, 50, &refused(400, None));
    fail(model, 50, &CallError::Timeout(Phase::Total));
    fail(model, 50, &CallError::TooLarge(1));
    assert_eq!(firsts(model, 1), ["a"]);
}

#[test]
fn a_call_counts_one_failure_of_a_route_however_often_it_asks() {
    let models = models(&[model("m", vec![route("a", 1, 0)])]).unwrap();
    let model = models.find("m").unwrap();
    let mut search = model.search();
    for round in 1..=5 {
        search.take().unwrap().failed(&down());
        assert!(search.take().is_none());
        assert_eq!(search.again(), round);
    }
    assert_eq!(firsts(model, 1), ["a"]);
}

#[test]
fn a_rest_that_the_upstream_asks_for_is_given_at_once() {
    let models = models(&[model("m", vec![route("a", 1, 0), route("b", 1, 1)])]).unwrap();
    let model = models.find("m").unwrap();
    fail(model, 1, &refused(429, Some(Duration::from_secs(30))));
    assert_eq!(firsts(model, 1), ["b"]);
    let rests = models.routes_to(models.provider("a").unwrap())[0].rests_ms;
    assert!((29_000..=30_000).contains(&rests), "{rests}");
}

#[tokio::test]
async fn one_probe_at_a_time_finds_out_whether_a_provider_is_back() {
    let quick = RoutingConfig { breaker_cooldown_ms: 20, ..config() };
    let all = [model("m", vec![route("a", 1, 0), route("b", 1, 1)])];
    let models = Models::new(&providers(), &all, &quick).unwrap();
    let model = models.find("m").unwrap();
    fail(model, 2, &down());
    assert_eq!(firsts(model, 1), ["b"]);
    tokio::time::sleep(Duration::from_millis(30)).await;
    let probe = model.search().take().unwrap();
    assert_eq!((name(&probe), firsts(model, 1)), ("a".to_owned(), vec!["b".to_owned()]));
    drop(probe);
    let mut second = model.search().take().unwrap();
    assert_eq!(name(&second), "a", "a probe that told nothing is followed by another");
    second.answered();
    assert_eq!(firsts(model, 2), ["a", "a"]);
}

#[test]
fn a_full_provider_is_passed_over_and_its_places_come_back() {
    let mut providers = providers();
    providers[0].max_concurrency = 2;
    let all = [
        model("m", vec![route("a", 1, 0), route("b", 1, 1)]),
        model("only", vec![route("a", 1, 0)]),
    ];
    let models = Models::new(&providers, &all, &config()).unwrap();
    let (model, only) = (models.find("m").unwrap(), models.find("only").unwrap());
    let two = [model.search().take().unwrap(), only.search().take().unwrap()];
    assert_eq!(firsts(model, 1), ["b"]);
    let mut search = only.search();
    assert!(search.take().is_none());
    assert_eq!(search.no_way(), NoWay::Full);
    drop(two);
    assert_eq!((firsts(model, 1), models.provider("a").unwrap().running()), (vec!["a".into()], 0));
}

#[test]
fn many_at_once_never_take_more_places_than_there_are() {
    let mut providers = providers();
    providers[0].max_concurrency = 3;
    let models = Models::new(&providers, &[model("m", vec![route("a", 1, 0)])], &config()).unwrap();
    let (model, provider) = (models.find("m").unwrap(), models.provider("a").unwrap());
    let most = std::sync::atomic::AtomicUsize::new(0);
    let inside = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..2_000 {
                    let Some(place) = model.search().take() else { continue };
                    let now = 1 + inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                    most.fetch_max(now, std::sync::atomic::Ordering::SeqCst);
                    std::thread::yield_now();
                    inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                    drop(place);
                }
            });
        }
    });
    assert!((1..=3).contains(&most.into_inner()));
    assert_eq!(provider.running(), 0);
}

#[test]
fn fallbacks_come_after_all_own_routes_and_say_their_name() {
    let models = models(&[
        ModelConfig {
            fallbacks: vec!["x".to_owned(), "y".to_owned()],
            ..model("m", vec![route("a", 1, 0), route("b", 1, 1)])
        },
        model("x", vec![route("c", 1, 0)]),
        ModelConfig { fallbacks: vec!["m".to_owned()], ..model("y", vec![route("a", 1, 0)]) },
    ])
    .unwrap();
    let mut search = models.find("m").unwrap().search();
    let ways: Vec<(String, Option<String>)> = std::iter::from_fn(|| search.take())
        .map(|place| (name(&place), place.fallback().map(ToString::to_string)))
        .collect();
    let expected = [("a", None), ("b", None), ("c", Some("x")), ("a", Some("y"))];
    assert_eq!(ways, expected.map(|(way, model)| (way.to_owned(), model.map(str::to_owned))));
}

#[test]
fn what_is_switched_off_gets_no_call() {
    let models = models(&[model("m", vec![route("a", 1, 0)])]).unwrap();
    let model = models.find("m").unwrap();
    for state in [ProviderState::Draining, ProviderState::Disabled] {
        models.provider("a").unwrap().set_state(state);
        let mut search = model.search();
        assert!(search.take().is_none() && !search.any_open());
        assert_eq!(search.no_way(), NoWay::Off);
    }
    models.provider("a").unwrap().set_state(ProviderState::Active);
    assert_eq!(firsts(model, 1), ["a"]);
}

#[tokio::test]
async fn the_soonest_is_preferred_and_the_others_are_not_forgotten() {
    let all = [ModelConfig {
        strategy: Strategy::LeastLatency,
        ..model("m", vec![route("a", 1, 0), route("b", 1, 0)])
    }];
    let models = models(&all).unwrap();
    let model = models.find("m").unwrap();
    for wait in [40, 1] {
        let mut place = model.search().take().unwrap();
        tokio::time::sleep(Duration::from_millis(wait)).await;
        place.answered();
    }
    let mut shares = BTreeMap::new();
    for way in firsts(model, 64) {
        *shares.entry(way).or_insert(0) += 1;
    }
    assert!(shares["b"] >= 60 && shares["b"] < 64, "{shares:?}");
}

#[test]
fn mistakes_are_named() {
    let refused = |all: &[ModelConfig]| models(all).unwrap_err().to_string();
    assert!(matches!(models(&[model("m", vec![])]), Err(ConfigError::NoRoutes(_))));
    assert!(refused(&[model("m", vec![route("nobody", 1, 0)])]).contains("\"nobody\""));
    let fallback = |name: &str| ModelConfig {
        fallbacks: vec![name.to_owned()],
        ..model("m", vec![route("a", 1, 0)])
    };
    let embed =
        ModelConfig { kind: ModelKind::Embedding, ..model("embed", vec![route("a", 1, 0)]) };
    for name in ["m", "nothing", "embed"] {
        let all = [fallback(name), embed.clone()];
        assert!(refused(&all).contains(&format!("fallback {name:?}")), "{name}");
    }
    assert!(matches!(
        models(&[model("m", vec![route("a", 1, 0); 65])]),
        Err(ConfigError::TooManyRoutes(_))
    ));
    let bad = ProviderConfig::new("x", ProviderKind::OpenAi, "ftp:/nowhere");
    let refused = Models::new(&[bad], &[], &config());
    assert!(matches!(refused, Err(ConfigError::Provider { .. })));
}
