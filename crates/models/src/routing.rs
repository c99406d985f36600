//! Which models are offered, and the ways to them.

mod place;
mod routes;
mod search;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use pricing::Quote;
use tokio::sync::Notify;

pub use place::Place;
pub(crate) use routes::MOST_ROUTES;
use routes::Routes;
pub use search::{NoWay, Search};

use crate::health::Health;
use crate::{ConfigError, ModelConfig, ModelKind, Provider, ProviderConfig, RoutingConfig};

/// A way to an upstream.
#[derive(Debug)]
pub struct Route {
    provider: Arc<Provider>,
    upstream_model: Arc<str>,
    cost: Option<Quote>,
    weight: u32,
    priority: u32,
    /// Shared by all routes to the same model of the same provider.
    health: Arc<Health>,
    /// When time began for its health.
    epoch: Instant,
}

/// A model offered under a public name.
#[derive(Debug)]
pub struct Model {
    name: Arc<str>,
    config: ModelConfig,
    routes: Arc<Routes>,
    /// Names and routes of the models that answer in its place.
    fallbacks: Vec<(Arc<str>, Arc<Routes>)>,
}

/// All models offered.
#[derive(Debug)]
pub struct Models {
    by_name: HashMap<Arc<str>, Arc<Model>>,
    in_order: Vec<Arc<Model>>,
    providers: Vec<Arc<Provider>>,
    routing: RoutingConfig,
    /// A provider's state was decided here.
    pub(crate) decided: Notify,
}

/// How a route stands at this moment, in this instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteState {
    /// The public name.
    pub model: Arc<str>,
    /// The model's name at the provider.
    pub upstream_model: Arc<str>,
    /// It lets everyone through.
    pub closed: bool,
    /// How long it is left alone, in milliseconds; 0 if the next call is let through.
    pub rests_ms: u64,
    /// The time to the first byte, smoothed, in microseconds; 0 if there was none yet.
    pub first_byte_micros: u64,
}

impl Models {
    /// The models as configured.
    pub fn new(
        providers: &[ProviderConfig],
        models: &[ModelConfig],
        routing: &RoutingConfig,
    ) -> Result<Self, ConfigError> {
        let mut parts = Parts::new(routing);
        for config in providers {
            parts.add_provider(config)?;
        }
        for config in models {
            parts.add_routes(config)?;
        }
        let mut all = Self {
            by_name: HashMap::new(),
            in_order: Vec::new(),
            providers: Vec::new(),
            routing: routing.clone(),
            decided: Notify::new(),
        };
        for config in models {
            let model = Arc::new(parts.model(config)?);
            all.by_name.insert(Arc::clone(&model.name), Arc::clone(&model));
            all.in_order.push(model);
        }
        all.providers = parts.providers;
        Ok(all)
    }

    /// The model of this public name.
    pub fn find(&self, name: &str) -> Option<&Arc<Model>> {
        self.by_name.get(name)
    }

    /// All models, in the order of the configuration.
    pub fn list(&self) -> &[Arc<Model>] {
        &self.in_order
    }

    /// All providers, in the order of the configuration.
    pub fn providers(&self) -> &[Arc<Provider>] {
        &self.providers
    }

    /// The provider of this name.
    pub fn provider(&self, name: &str) -> Option<&Arc<Provider>> {
        self.providers.iter().find(|provider| provider.name().as_ref() == name)
    }

    /// What becomes of a call whose upstream fails.
    pub const fn routing(&self) -> &RoutingConfig {
        &self.routing
    }

    /// How the routes to a provider stand.
    pub fn routes_to(&self, provider: &Provider) -> Vec<RouteState> {
        let models = self.in_order.iter();
        let routes = models.flat_map(|model| model.routes.list().iter().map(move |r| (model, r)));
        routes
            .filter(|(_, route)| route.provider.name() == provider.name())
            .map(|(model, route)| RouteState {
                model: Arc::clone(&model.name),
                upstream_model: Arc::clone(&route.upstream_model),
                closed: route.health.is_closed(),
                rests_ms: route.health.rests(route.now()),
                first_byte_micros: route.health.first_byte_micros(),
            })
            .collect()
    }
}

/// What models are made of, while they are made.
struct Parts<'a> {
    routing: &'a RoutingConfig,
    epoch: Instant,
    providers: Vec<Arc<Provider>>,
    healths: HashMap<(&'a str, &'a str), Arc<Health>>,
    routes: HashMap<&'a str, (ModelKind, Arc<Routes>)>,
}

impl<'a> Parts<'a> {
    fn new(routing: &'a RoutingConfig) -> Self {
        Self {
            routing,
            epoch: Instant::now(),
            providers: Vec::new(),
            healths: HashMap::new(),
            routes: HashMap::new(),
        }
    }

    fn add_provider(&mut self, config: &ProviderConfig) -> Result<(), ConfigError> {
        if self.providers.iter().any(|known| known.name().as_ref() == config.name) {
            return Err(ConfigError::Twice { what: "provider", name: config.name.clone() });
        }
        self.providers.push(Arc::new(Provider::new(config)?));
        Ok(())
    }

    fn add_routes(&mut self, config: &'a ModelConfig) -> Result<(), ConfigError> {
        let routes: Vec<Arc<Route>> =
            (0..config.routes.len()).map(|at| self.route(config, at)).collect::<Result<_, _>>()?;
        let routes = Routes::new(routes, config)?;
        if self.routes.insert(&config.name, (config.kind, Arc::new(routes))).is_some() {
            return Err(ConfigError::Twice { what: "model", name: config.name.clone() });
        }
        Ok(())
    }

    fn route(&mut self, model: &'a ModelConfig, at: usize) -> Result<Arc<Route>, ConfigError> {
        let config =
            model.routes.get(at).ok_or_else(|| ConfigError::NoRoutes(model.name.clone()))?;
        let provider = self.providers.iter().find(|known| known.name().as_ref() == config.provider);
        let provider = provider.ok_or_else(|| ConfigError::UnknownProvider {
            model: model.name.clone(),
            provider: config.provider.clone(),
        })?;
        let upstream_model = config.model.as_deref().unwrap_or(&model.name);
        let cost = config
            .cost
            .as_ref()
            .map(|cost| Quote::at_rates(upstream_model, cost.currency, cost.rates()));
        let cost = cost.transpose().map_err(|cause| ConfigError::Cost {
            model: model.name.clone(),
            provider: config.provider.clone(),
            cause,
        })?;
        let routing = self.routing;
        let health = self
            .healths
            .entry((&config.provider, upstream_model))
            .or_insert_with(|| Arc::new(Health::new(routing)));
        Ok(Arc::new(Route {
            provider: Arc::clone(provider),
            upstream_model: upstream_model.into(),
            cost,
            weight: config.weight,
            priority: config.priority,
            health: Arc::clone(health),
            epoch: self.epoch,
        }))
    }

    fn model(&self, config: &ModelConfig) -> Result<Model, ConfigError> {
        let own = self.routes.get(config.name.as_str());
        let (_, routes) = own.ok_or_else(|| ConfigError::NoRoutes(config.name.clone()))?;
        let fallbacks = config.fallbacks.iter().map(|name| {
            let known = self.routes.get(name.as_str());
            let (_, routes) = known
                .filter(|(kind, _)| *kind == config.kind && *name != config.name)
                .ok_or_else(|| ConfigError::Fallback {
                    model: config.name.clone(),
                    fallback: name.clone(),
                    kind: config.kind.as_str(),
                })?;
            Ok((Arc::from(name.as_str()), Arc::clone(routes)))
        });
        let rule = config.cached_response.map_or(Ok(()), pricing::CachedResponse::check);
        rule.map_err(|cause| ConfigError::CachedResponse { model: config.name.clone(), cause })?;
        Ok(Model {
            name: config.name.as_str().into(),
            config: config.clone(),
            routes: Arc::clone(routes),
            fallbacks: fallbacks.collect::<Result<_, ConfigError>>()?,
        })
    }
}

impl Model {
    /// The public name.
    pub const fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Its settings.
    pub const fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The ways to it, in the order to try them for one call.
    pub fn search(&self) -> Search<'_> {
        Search::new(self)
    }

    fn ways(&self, at: usize) -> Option<(&Routes, Option<&Arc<str>>)> {
        match at.checked_sub(1) {
            None => Some((&self.routes, None)),
            Some(at) => self.fallbacks.get(at).map(|(name, routes)| (routes.as_ref(), Some(name))),
        }
    }
}

impl Route {
    /// The upstream account.
    pub const fn provider(&self) -> &Arc<Provider> {
        &self.provider
    }

    /// The model's name there.
    pub const fn upstream_model(&self) -> &Arc<str> {
        &self.upstream_model
    }

    /// What the upstream asks for, if that is known.
    pub const fn cost(&self) -> Option<&Quote> {
        self.cost.as_ref()
    }

    /// Milliseconds on its clock, never 0.
    fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1)
    }
}
