//! Who may use what: rules, roles, scopes, addresses.

use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::routing::{get, post};
use http::Request;
use http_body_util::BodyExt as _;
use identity::{
    Anyone, Authenticated, Change, CreatedKey, Edit, Error, Identity, KeyChange, Limits,
    MemberChange, NewKey, OrgKind, Role, Rule,
};
use serde_json::Value;
use tower::ServiceExt as _;
use web::ClientIp;

use crate::{everywhere, new_key, open, page, routes};

const ROUTES: &[(&str, &str)] = &[
    ("GET", "/models"),
    ("POST", "/chat"),
    ("GET", "/things/{id}"),
    ("DELETE", "/things/{id}"),
    ("GET", "/forgotten"),
];
const RULES: &[Rule] = &[
    Rule { method: "GET", path: "/models", roles: &["logined"], scope: "models:read" },
    Rule { method: "POST", path: "/chat", roles: &["customer.*"], scope: "chat" },
    Rule { method: "*", path: "/things/**", roles: &["*.admin"], scope: "" },
];

async fn yes(Authenticated(_caller): Authenticated) -> &'static str {
    "yes"
}

fn surface(identity: &Identity) -> Router {
    identity.govern(routes(ROUTES), RULES);
    Router::new()
        .route("/models", get(|Anyone(_caller): Anyone| async { "yes" }))
        .route("/chat", post(yes))
        .route("/things/{id}", get(yes).delete(yes))
        .route("/forgotten", get(yes))
        .with_state(identity.clone())
}

/// `yes`, or the code of the refusal.
async fn ask_from(
    surface: &Router,
    (method, path): (&str, &str),
    key: Option<&CreatedKey>,
    client: Option<&str>,
) -> String {
    let mut request = Request::builder().method(method).uri(path);
    if let Some(key) = key {
        request = request.header("x-api-key", key.api_key.expose());
    }
    let client = ClientIp(client.map(|address| address.parse().unwrap()));
    let request = request.extension(client).body(Body::empty()).unwrap();
    let response = surface.clone().oneshot(request).await.unwrap();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    match serde_json::from_slice::<Value>(&bytes) {
        Ok(problem) => problem["code"].as_str().unwrap().to_owned(),
        Err(_plain) => String::from_utf8(bytes.to_vec()).unwrap(),
    }
}

async fn ask(surface: &Router, route: (&str, &str), key: &CreatedKey) -> String {
    ask_from(surface, route, Some(key), None).await
}

async fn key_of(identity: &Identity, kind: OrgKind, role: Role) -> CreatedKey {
    let org = identity.create_org("org", kind).await.unwrap();
    identity.create_key(NewKey::new(org.id, "key", role)).await.unwrap()
}

#[tokio::test]
async fn what_no_rule_lets_a_role_do_is_refused() {
    for test in everywhere().await {
        let surface = surface(&test.identity);
        let member = key_of(&test.identity, OrgKind::Customer, Role::Member).await;
        let seller = key_of(&test.identity, OrgKind::Distributor, Role::Admin).await;
        for (route, by_member, by_seller) in [
            (("GET", "/models"), "yes", "yes"),
            (("HEAD", "/models"), "", ""),
            (("POST", "/chat"), "yes", "permission_denied"),
            (("GET", "/things/7"), "permission_denied", "yes"),
            (("DELETE", "/things/7"), "permission_denied", "yes"),
            (("GET", "/forgotten"), "permission_denied", "permission_denied"),
        ] {
            assert_eq!(ask(&surface, route, &member).await, by_member, "{route:?}");
            assert_eq!(ask(&surface, route, &seller).await, by_seller, "{route:?}");
            let nobody = ask_from(&surface, route, None, None).await;
            assert!(["missing_credential", ""].contains(&nobody.as_str()), "{route:?} {nobody}");
        }
    }
}

#[tokio::test]
async fn rules_that_are_added_and_taken_back_count_at_once() {
    for test in everywhere().await {
        let (identity, surface) = (&test.identity, surface(&test.identity));
        let member = key_of(identity, OrgKind::Customer, Role::Member).await;
        assert_eq!(ask(&surface, ("GET", "/things/7"), &member).await, "permission_denied");
        let rule = identity.create_rule("customer.member", "GET", "/things/*").await.unwrap();
        assert_eq!(ask(&surface, ("GET", "/things/7"), &member).await, "yes");
        assert_eq!(ask(&surface, ("DELETE", "/things/7"), &member).await, "permission_denied");
        identity.delete_rule(&rule.id).await.unwrap();
        assert_eq!(ask(&surface, ("GET", "/things/7"), &member).await, "permission_denied");
        let again = identity.delete_rule(&rule.id).await;
        assert!(matches!(again, Err(Error::NotFound { .. })));

        let nobody = || ask_from(&surface, ("GET", "/models"), None, None);
        assert_eq!(nobody().await, "missing_credential");
        let public = identity.create_rule("anonymous", "GET", "/models").await.unwrap();
        assert_eq!(nobody().await, "yes", "{}", test.on.kind);
        let wrong = Request::get("/models").header("x-api-key", "llk_wrong");
        let wrong = surface.clone().oneshot(wrong.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(wrong.status().as_u16(), 401, "a wrong credential is not nobody's");
        assert_eq!(identity.list_rules(&page(9)).await.unwrap().rows, [public]);
        for (role, method, path) in [
            ("owner.admin", "GET", "/a"),
            ("any", "FETCH", "/a"),
            ("any", "get", "/a"),
            ("any", "GET", "a"),
            ("any", "GET", "/**/a"),
            ("", "GET", "/a"),
        ] {
            assert!(
                identity.create_rule(role, method, path).await.is_err(),
                "{role} {method} {path}"
            );
        }
    }
}

#[tokio::test]
async fn a_role_given_to_a_user_an_application_or_a_key_works_until_it_is_taken() {
    for test in everywhere().await {
        let (identity, surface) = (&test.identity, surface(&test.identity));
        identity.create_rule("customer.keeper", "DELETE", "/things/*").await.unwrap();
        identity.create_role("customer.keeper", "Keeper").await.unwrap();
        let org = identity.create_org("org", OrgKind::Customer).await.unwrap();
        let user = identity.create_user(&org.id, "user").await.unwrap();
        let app = identity.create_app(&org.id, "app").await.unwrap();
        let of_user = NewKey { user_id: Some(user.id.clone()), ..new_key(&org.id) };
        let of_user = identity.create_key(of_user).await.unwrap();
        let of_app = NewKey { app_id: Some(app.id.clone()), ..new_key(&org.id) };
        let of_app = identity.create_key(of_app).await.unwrap();
        let roles = vec!["customer.keeper".to_owned()];
        let own = NewKey { roles: roles.clone(), ..new_key(&org.id) };
        let own = identity.create_key(own).await.unwrap();
        let can = async |key: &CreatedKey| ask(&surface, ("DELETE", "/things/7"), key).await;
        assert_eq!(
            (can(&of_user).await, can(&own).await),
            ("permission_denied".into(), "yes".into())
        );
        let give = |roles: &[String]| {
            Edit::from(MemberChange { roles: Some(roles.to_vec()), ..Default::default() })
        };
        identity.change_user(&user.id, give(&roles)).await.unwrap();
        identity.change_app(&app.id, give(&roles)).await.unwrap();
        assert_eq!((can(&of_user).await, can(&of_app).await), ("yes".into(), "yes".into()));
        identity.change_user(&user.id, give(&[])).await.unwrap();
        assert_eq!(
            (can(&of_user).await, can(&of_app).await),
            ("permission_denied".into(), "yes".into())
        );

        let off = Change { name: None, disabled: Some(true) };
        identity.change_role("customer.keeper", off.into()).await.unwrap();
        assert_eq!(
            (can(&own).await, can(&of_app).await),
            ("permission_denied".into(), "permission_denied".into())
        );
        let on = Change { name: None, disabled: Some(false) };
        identity.change_role("customer.keeper", on.into()).await.unwrap();
        assert_eq!(can(&own).await, "yes", "{}", test.on.kind);
        identity.delete_role("customer.keeper", None).await.unwrap();
        assert_eq!(can(&own).await, "permission_denied", "{}", test.on.kind);
        for id in ["customer.keeper", "customer.admin", "keeper", "customer.*"] {
            assert!(identity.create_role(id, "again").await.is_err(), "{id}");
        }
    }
}

#[tokio::test]
async fn roles_are_given_only_to_whom_they_are_for() {
    for test in everywhere().await {
        let identity = &test.identity;
        identity.create_role("customer.keeper", "Keeper").await.unwrap();
        let org = identity.create_org("org", OrgKind::Distributor).await.unwrap();
        let user = identity.create_user(&org.id, "user").await.unwrap();
        for role in
            ["customer.keeper", "platform.admin", "distributor.keeper", "any", "*.admin", "x"]
        {
            let roles = vec![role.to_owned()];
            let edit =
                Edit::from(MemberChange { roles: Some(roles.clone()), ..Default::default() });
            let refused = identity.change_user(&user.id, edit).await;
            assert!(matches!(refused, Err(Error::InvalidRole(_))), "{role} {refused:?}");
            let new = NewKey { roles, ..new_key(&org.id) };
            assert!(identity.create_key(new).await.is_err(), "{role}");
        }
        let many = Some(vec!["distributor.admin".to_owned(); 33]);
        let edit = Edit::from(MemberChange { roles: many, ..Default::default() });
        assert!(matches!(identity.change_user(&user.id, edit).await, Err(Error::Limits)));
    }
}

#[tokio::test]
async fn a_key_is_limited_to_its_scopes_and_addresses() {
    for test in everywhere().await {
        let (identity, surface) = (&test.identity, surface(&test.identity));
        let org = identity.create_org("org", OrgKind::Customer).await.unwrap();
        let limits = Limits {
            scopes: vec!["models:*".into()],
            models: vec!["gpt-*".into()],
            allowed_ips: vec!["192.0.2.0/24".parse().unwrap()],
        };
        let key = identity.create_key(NewKey { limits, ..new_key(&org.id) }).await.unwrap();
        let inside = Some("192.0.2.9");
        let from = async |route, client| ask_from(&surface, route, Some(&key), client).await;
        assert_eq!(from(("GET", "/models"), inside).await, "yes", "{}", test.on.kind);
        assert_eq!(from(("POST", "/chat"), inside).await, "scope_missing");
        assert_eq!(from(("GET", "/models"), Some("192.0.3.9")).await, "ip_not_allowed");
        assert_eq!(from(("GET", "/models"), None).await, "ip_not_allowed");
        let caller = identity.authenticate(key.api_key.expose()).await.unwrap();
        assert!(caller.limits.allows_model("gpt-5") && !caller.limits.allows_model("o3"));

        let more = KeyChange {
            scopes: Some(vec!["chat".into()]),
            allowed_ips: Some(vec![]),
            ..Default::default()
        };
        let changed = identity.change_key(&key.id, Edit::from(more)).await.unwrap();
        assert_eq!((changed.version, changed.limits.models.len()), (2, 1));
        assert_eq!(from(("POST", "/chat"), None).await, "yes");
        assert_eq!(from(("GET", "/models"), None).await, "scope_missing");
        let unknown = KeyChange { scopes: Some(vec!["everything".into()]), ..Default::default() };
        let refused = identity.change_key(&key.id, Edit::from(unknown)).await;
        assert!(matches!(refused, Err(Error::UnknownScope(_))), "{refused:?}");

        let successor = identity.rotate_key(&key.id, identity::Rotation::default()).await.unwrap();
        assert_eq!(ask(&surface, ("GET", "/models"), &successor).await, "scope_missing");
    }
}

/// Waits until the other instance answers so, and for no longer than the promise holds.
async fn within_a_second(surface: &Router, route: (&str, &str), key: &CreatedKey, code: &str) {
    let since = Instant::now();
    while ask(surface, route, key).await != code {
        assert!(since.elapsed() < Duration::from_secs(1), "{code}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn whatever_is_taken_on_one_instance_is_gone_on_the_others_within_a_second() {
    for test in everywhere().await {
        let (here, there) = (&test.identity, open(&test.on, &test.clock, 'a').await.unwrap());
        let surface = surface(&there);
        here.create_role("customer.keeper", "Keeper").await.unwrap();
        let rule = here.create_rule("customer.keeper", "DELETE", "/things/*").await.unwrap();
        let org = here.create_org("org", OrgKind::Customer).await.unwrap();
        let user = here.create_user(&org.id, "user").await.unwrap();
        let roles = vec!["customer.keeper".to_owned()];
        let new = NewKey { user_id: Some(user.id.clone()), roles, ..new_key(&org.id) };
        let key = here.create_key(new).await.unwrap();
        let route = ("DELETE", "/things/7");
        assert_eq!(ask(&surface, route, &key).await, "yes", "{}", test.on.kind);

        here.delete_rule(&rule.id).await.unwrap();
        within_a_second(&surface, route, &key, "permission_denied").await;
        here.create_rule("customer.*", "DELETE", "/things/*").await.unwrap();
        within_a_second(&surface, route, &key, "yes").await;
        let switch = |disabled| Change { name: None, disabled: Some(disabled) };
        here.change_user(&user.id, switch(true)).await.unwrap();
        within_a_second(&surface, route, &key, "api_key_disabled").await;
        here.change_user(&user.id, switch(false)).await.unwrap();
        within_a_second(&surface, route, &key, "yes").await;
        here.change_org(&org.id, switch(true)).await.unwrap();
        within_a_second(&surface, route, &key, "api_key_disabled").await;
        here.change_org(&org.id, switch(false)).await.unwrap();
        within_a_second(&surface, route, &key, "yes").await;
        here.delete_key(&key.id, None).await.unwrap();
        within_a_second(&surface, route, &key, "api_key_disabled").await;
    }
}
