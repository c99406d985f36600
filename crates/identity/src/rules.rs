//! Who may use which routes: rules as data, and the table they are compiled to.
//!
//! A surface declares its rules once ([`Identity::govern`]); an operator adds more. What no rule
//! lets a caller do is refused.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use http::Method;
use parking_lot::{Mutex, RwLock};
use serde::Serialize;
use utoipa::ToSchema;

use crate::roles::RolePattern;
use crate::{Caller, Error, Identity, Result};

/// A surface's own rule: callers with one of the roles may use the routes, with keys of the scope.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Such as `POST`; `*` for every method.
    pub method: &'static str,
    /// The whole path as it is routed, such as `/v1/models/{model}`. `*` stands for one segment,
    /// `**` at the end for any number of them.
    pub path: &'static str,
    /// Such as `customer.admin`, `*.admin`, `customer.*`, `logined` or `any`.
    pub roles: &'static [&'static str],
    /// What a key with scopes needs (of [`crate::SCOPES`]); empty for nothing. Of several rules for
    /// a route, the one with the longest path counts, and of these the one that names the method.
    pub scope: &'static str,
}

/// A rule added by an operator: it lets more callers in, never fewer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Added {
    pub(crate) role: String,
    pub(crate) method: String,
    pub(crate) path: String,
}

/// A route and who may use it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Route {
    /// The method.
    pub method: String,
    /// The path as it is routed.
    pub path: String,
    /// What a key with scopes needs; empty for nothing.
    pub scope: &'static str,
    /// Who is let in.
    #[schema(value_type = Vec<String>)]
    pub roles: Vec<RolePattern>,
}

/// What is in force. Replaced as a whole, so that nobody sees half of it.
#[derive(Debug, Default)]
pub(crate) struct Table {
    /// Of what was read from the database.
    version: String,
    added: Vec<Added>,
    /// The operator's roles that count.
    roles: HashSet<String>,
    routes: HashMap<Box<str>, Vec<Route>>,
}

impl Table {
    /// Whether the role, which is not one of every organization's own, counts at present.
    pub(crate) fn has_role(&self, role: &str) -> bool {
        self.roles.contains(role)
    }

    fn find(&self, method: &Method, path: &str) -> Option<&Route> {
        // What answers GET answers HEAD.
        let method = if method == Method::HEAD { "GET" } else { method.as_str() };
        self.routes.get(path)?.iter().find(|route| route.method == method)
    }
}

/// The declared rules and the table of all.
#[derive(Debug, Default)]
pub(crate) struct Policy {
    surfaces: Mutex<Surfaces>,
    table: RwLock<Arc<Table>>,
}

#[derive(Debug, Default)]
struct Surfaces {
    routes: Vec<(String, String)>,
    rules: Vec<Rule>,
}

impl Policy {
    pub(crate) fn table(&self) -> Arc<Table> {
        Arc::clone(&self.table.read())
    }

    /// Whether this is what is in force.
    pub(crate) fn is(&self, version: &str) -> bool {
        self.table.read().version == version
    }

    /// Puts in force what was read under this version.
    pub(crate) fn put(&self, version: String, added: Vec<Added>, roles: HashSet<String>) {
        let surfaces = self.surfaces.lock();
        let routes = surfaces.compile(&added);
        *self.table.write() = Arc::new(Table { version, added, roles, routes });
    }

    fn declare(&self, routes: impl Iterator<Item = (String, String)>, rules: &[Rule]) {
        let mut surfaces = self.surfaces.lock();
        for route in routes {
            if !surfaces.routes.contains(&route) {
                surfaces.routes.push(route);
            }
        }
        surfaces.rules.extend_from_slice(rules);
        let old = self.table();
        let routes = surfaces.compile(&old.added);
        let (version, added, roles) = (old.version.clone(), old.added.clone(), old.roles.clone());
        *self.table.write() = Arc::new(Table { version, added, roles, routes });
    }
}

impl Surfaces {
    fn compile(&self, added: &[Added]) -> HashMap<Box<str>, Vec<Route>> {
        let mut table: HashMap<Box<str>, Vec<Route>> = HashMap::new();
        for (method, path) in &self.routes {
            let route = self.route(method, path, added);
            table.entry(path.as_str().into()).or_default().push(route);
        }
        table
    }

    fn route(&self, method: &str, path: &str, added: &[Added]) -> Route {
        let own: Vec<&Rule> =
            self.rules.iter().filter(|rule| fits(rule.method, rule.path, method, path)).collect();
        let scope = own
            .iter()
            .max_by_key(|rule| (rule.path.len(), rule.method != "*"))
            .map_or("", |rule| rule.scope);
        let more = added.iter().filter(|rule| fits(&rule.method, &rule.path, method, path));
        let names = own.iter().flat_map(|rule| rule.roles.iter().copied());
        let mut roles: Vec<RolePattern> = names
            .chain(more.map(|rule| rule.role.as_str()))
            .filter_map(|name| name.parse().ok())
            .collect();
        roles.sort_unstable();
        roles.dedup();
        Route { method: method.to_owned(), path: path.to_owned(), scope, roles }
    }
}

fn fits(rule_method: &str, rule_path: &str, method: &str, path: &str) -> bool {
    (rule_method == "*" || rule_method == method) && path_fits(rule_path, path)
}

/// Whether a route's path is like a rule's. A placeholder is one segment, whatever its name.
fn path_fits(pattern: &str, path: &str) -> bool {
    let mut segments = path.split('/');
    for wanted in pattern.split('/') {
        if wanted == "**" {
            return true;
        }
        let Some(found) = segments.next() else { return false };
        let placeholder = wanted.starts_with('{') && found.starts_with('{');
        if wanted != found && !placeholder && (wanted != "*" || found.is_empty()) {
            return false;
        }
    }
    segments.next().is_none()
}

/// Whether a rule's path can be one: `**` only at the end, as a segment of its own, as `*`.
pub(crate) fn is_path_pattern(path: &str) -> bool {
    let Some(rest) = path.strip_prefix('/') else { return false };
    let segments: Vec<&str> = rest.split('/').collect();
    let last = segments.len() - 1;
    path.len() <= 200
        && path.bytes().all(|byte| byte.is_ascii_graphic())
        && segments.iter().enumerate().all(|(at, segment)| match *segment {
            "**" => at == last,
            "*" => true,
            other => !other.contains('*') && (!other.is_empty() || last == 0),
        })
}

impl Identity {
    /// Puts a surface's routes, by method and whole path, under its rules. Until then, nobody who must
    /// be authenticated gets in.
    pub fn govern(&self, routes: impl IntoIterator<Item = (Method, String)>, rules: &[Rule]) {
        let routes = routes.into_iter().map(|(method, path)| (method.to_string(), path));
        self.0.policy.declare(routes, rules);
    }

    /// Every governed route and who may use it, by path.
    pub fn routes(&self) -> Vec<Route> {
        let table = self.0.policy.table();
        let mut routes: Vec<Route> = table.routes.values().flatten().cloned().collect();
        routes.sort_unstable_by(|one, two| (&one.path, &one.method).cmp(&(&two.path, &two.method)));
        routes
    }

    /// The scope that the route asks of keys, if the caller, or nobody in particular, may use it.
    pub(crate) fn permit(
        &self,
        (method, path): (&Method, Option<&str>),
        caller: Option<&Caller>,
    ) -> Result<&'static str> {
        let table = self.0.policy.table();
        let route = path.and_then(|path| table.find(method, path));
        route
            .filter(|route| route.roles.iter().any(|role| role.admits(caller)))
            .map(|route| route.scope)
            .ok_or(Error::PermissionDenied)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_fit_by_segment() {
        for (pattern, path) in [
            ("/a", "/a"),
            ("/a/*", "/a/b"),
            ("/a/*", "/a/{id}"),
            ("/a/**", "/a/b/{c}"),
            ("/a/**", "/a"),
            ("/a/{x}/c", "/a/{id}/c"),
            ("/**", "/a"),
            ("/", "/"),
            ("/*/c", "/{x}/c"),
        ] {
            assert!(path_fits(pattern, path), "{pattern} {path}");
        }
        for (pattern, path) in [
            ("/a", "/a/b"),
            ("/a", "/ab"),
            ("/a/*", "/a"),
            ("/a/*", "/a/b/c"),
            ("/a/*", "/a/"),
            ("/a/**", "/ab"),
            ("/a/{x}", "/a/b"),
            ("/a/b", "/a/{id}"),
            ("/a/{x}/c", "/a/{x}/d"),
        ] {
            assert!(!path_fits(pattern, path), "{pattern} {path}");
        }
    }

    #[test]
    fn patterns_are_read_strictly() {
        for path in ["/", "/a", "/a/*", "/a/*/b", "/a/**", "/**", "/a/{id}"] {
            assert!(is_path_pattern(path), "{path}");
        }
        for path in ["", "a", "/a//b", "/a/", "/a*", "/**/a", "/a/***", "/a b", "/ä"] {
            assert!(!is_path_pattern(path), "{path}");
        }
        assert!(!is_path_pattern(&format!("/{}", "a".repeat(200))));
    }

    #[test]
    fn a_route_without_a_rule_admits_nobody_and_the_longest_rule_names_the_scope() {
        const RULES: &[Rule] = &[
            Rule { method: "GET", path: "/a/**", roles: &["*.admin"], scope: "a" },
            Rule { method: "*", path: "/a/**", roles: &["*.admin"], scope: "a:all" },
            Rule { method: "*", path: "/a/{id}", roles: &["logined", "*.admin"], scope: "a:one" },
        ];
        let policy = Policy::default();
        let routes = [("GET", "/a/{id}"), ("POST", "/a/{id}"), ("GET", "/a"), ("POST", "/c/d")];
        let owned = routes.map(|(method, path)| (method.to_owned(), path.to_owned()));
        policy.declare(owned.into_iter(), RULES);
        let shown = |method: Method, path| {
            let table = policy.table();
            let route = table.find(&method, path).unwrap();
            let roles: Vec<String> = route.roles.iter().map(ToString::to_string).collect();
            format!("{} {}", route.scope, roles.join(","))
        };
        assert_eq!(shown(Method::GET, "/a/{id}"), "a:one logined,*.admin");
        assert_eq!(shown(Method::HEAD, "/a"), "a *.admin");
        assert_eq!(shown(Method::POST, "/c/d"), " ");
        assert!(policy.table().find(&Method::GET, "/b").is_none());
        let more = Added { role: "any".into(), method: "POST".into(), path: "/**".into() };
        policy.put("2".into(), vec![more], HashSet::new());
        assert_eq!(shown(Method::POST, "/c/d"), " any");
        assert!(policy.is("2"));
        policy.declare([("POST".to_owned(), "/c".to_owned())].into_iter(), &[]);
        assert_eq!(shown(Method::POST, "/c"), " any");
    }
}
