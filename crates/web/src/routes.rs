//! A surface's routes, and their description for whoever asks for it.
//!
//! A description is many times as large as its routes, and a server is seldom asked for it: it is made then,
//! and what makes it stays out of memory until then.

use axum::Router;
use axum::handler::Handler;
use axum::routing::{MethodFilter, MethodRouter};
use http::Method;
use utoipa::openapi::{HttpMethod, OpenApi};
use utoipa_axum::PathItemExt as _;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};

/// The handlers of one path, each annotated with `#[utoipa::path]` and named with its module (one of the
/// same module: `self::get_metrics`).
#[macro_export]
macro_rules! routes {
    ($($module:ident::$handler:ident),+ $(,)?) => {
        $crate::utoipa_axum::paste! {
            $crate::Handlers::new(|| $crate::utoipa_axum::routes!($($module::$handler),+))
                $(.with::<$module::[<__path_ $handler>], _, _>($module::$handler))+
        }
    };
}

/// The handlers of one path, as [`routes!`](crate::routes!) gives them.
#[derive(Clone)]
pub struct Handlers<S> {
    path: String,
    methods: Vec<Method>,
    router: MethodRouter<S>,
    describe: fn() -> UtoipaMethodRouter<S>,
}

impl<S: Clone + Send + Sync + 'static> Handlers<S> {
    /// None yet, and how they are described.
    pub fn new(describe: fn() -> UtoipaMethodRouter<S>) -> Self {
        Self { path: String::new(), methods: Vec::new(), router: MethodRouter::new(), describe }
    }

    /// One more, for the methods and at the path of its annotation.
    #[must_use]
    pub fn with<P, H, T>(mut self, handler: H) -> Self
    where
        P: utoipa::Path,
        H: Handler<T, S>,
        T: 'static,
    {
        if let Some(methods) = self.note(P::path(), &P::methods()) {
            self.router = self.router.on(methods, handler);
        }
        self
    }

    /// What does not depend on the handler's type, so that it is not compiled for each.
    fn note(&mut self, path: String, methods: &[HttpMethod]) -> Option<MethodFilter> {
        self.path = path;
        self.methods.extend(methods.iter().map(method));
        methods.iter().map(HttpMethod::to_method_filter).reduce(MethodFilter::or)
    }
}

fn method(named: &HttpMethod) -> Method {
    match named {
        HttpMethod::Get => Method::GET,
        HttpMethod::Post => Method::POST,
        HttpMethod::Put => Method::PUT,
        HttpMethod::Delete => Method::DELETE,
        HttpMethod::Options => Method::OPTIONS,
        HttpMethod::Head => Method::HEAD,
        HttpMethod::Patch => Method::PATCH,
        HttpMethod::Trace => Method::TRACE,
    }
}

/// The routes of a surface, whose handlers take the state `S`.
#[derive(Clone)]
pub struct Routes<S>(Vec<Handlers<S>>);

impl<S> Default for Routes<S> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<S: Clone + Send + Sync + 'static> Routes<S> {
    /// No routes yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The handlers of one more path, or more handlers of one.
    #[must_use]
    pub fn routes(mut self, handlers: Handlers<S>) -> Self {
        self.0.push(handlers);
        self
    }

    /// These and others.
    #[must_use]
    pub fn merge(mut self, others: Self) -> Self {
        self.0.extend(others.0);
        self
    }

    /// Every path also with a slash at its end.
    #[must_use]
    pub fn with_slashes(self) -> Self {
        let slashed = self.0.iter().cloned();
        let slashed = slashed.map(|one| Handlers { path: format!("{}/", one.path), ..one });
        let slashed = Self(slashed.collect());
        self.merge(slashed)
    }

    /// Every method and whole path, of routes that are nested below this path.
    pub fn paths(&self, below: &str) -> Vec<(Method, String)> {
        let paths = |one: &Handlers<S>| {
            let path = format!("{below}{}", one.path);
            one.methods.clone().into_iter().map(move |method| (method, path.clone()))
        };
        self.0.iter().flat_map(paths).collect()
    }

    /// As they are served.
    pub fn router(self) -> Router<S> {
        self.0.into_iter().fold(Router::new(), |router, one| router.route(&one.path, one.router))
    }

    /// As they are described.
    pub fn document(&self) -> OpenApi {
        let described = self.0.iter().map(|one| (one.describe)());
        described.fold(OpenApiRouter::new(), OpenApiRouter::routes).into_openapi()
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http::{Request, StatusCode};
    use tower::ServiceExt as _;

    use super::*;

    #[utoipa::path(get, path = "/things/{id}", responses((status = 200)))]
    async fn get_thing() -> &'static str {
        "got"
    }

    #[utoipa::path(delete, path = "/things/{id}", responses((status = 200)))]
    async fn delete_thing() {}

    #[utoipa::path(get, path = "/things", responses((status = 200)))]
    async fn list_things() {}

    fn things() -> Routes<()> {
        Routes::new()
            .routes(crate::routes!(self::get_thing, self::delete_thing))
            .routes(crate::routes!(self::list_things))
    }

    #[test]
    fn what_is_served_is_what_is_described() {
        let paths = things().paths("/a");
        let shown: Vec<String> =
            paths.iter().map(|(method, path)| format!("{method} {path}")).collect();
        assert_eq!(shown, ["GET /a/things/{id}", "DELETE /a/things/{id}", "GET /a/things"]);
        let described = things().document().paths.paths;
        assert_eq!(described.keys().collect::<Vec<_>>(), ["/things", "/things/{id}"]);
        let thing = &described["/things/{id}"];
        assert!(thing.get.is_some() && thing.delete.is_some() && thing.post.is_none());
    }

    #[tokio::test]
    async fn a_slash_leads_to_the_same_handler() {
        let router = things().with_slashes().router();
        for (path, status) in [
            ("/things/1", StatusCode::OK),
            ("/things/1/", StatusCode::OK),
            ("/things/", StatusCode::OK),
            ("/thing/", StatusCode::NOT_FOUND),
        ] {
            let request = Request::builder().uri(path).body(Body::empty()).unwrap();
            assert_eq!(router.clone().oneshot(request).await.unwrap().status(), status, "{path}");
        }
    }
}
