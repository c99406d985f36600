//! Which models are offered, and the ways to them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::{ConfigError, ModelConfig, Provider, ProviderConfig};

/// A way to an upstream.
#[derive(Clone, Debug)]
pub struct Route {
    /// The upstream account.
    pub provider: Arc<Provider>,
    /// The model's name there.
    pub upstream_model: Arc<str>,
    /// Its share among routes of the same priority.
    pub weight: u32,
    /// Routes of the lowest number are tried first.
    pub priority: u32,
}

/// A model offered under a public name.
#[derive(Debug)]
pub struct Model {
    name: Arc<str>,
    config: ModelConfig,
    first: Route,
    others: Vec<Route>,
    turn: AtomicU64,
}

/// All models offered.
#[derive(Debug)]
pub struct Models {
    by_name: HashMap<Arc<str>, Arc<Model>>,
    in_order: Vec<Arc<Model>>,
}

impl Models {
    /// The models as configured.
    pub fn new(providers: &[ProviderConfig], models: &[ModelConfig]) -> Result<Self, ConfigError> {
        let mut known: HashMap<&str, Arc<Provider>> = HashMap::new();
        for config in providers {
            if known.insert(&config.name, Arc::new(Provider::new(config)?)).is_some() {
                return Err(ConfigError::Twice { what: "provider", name: config.name.clone() });
            }
        }
        let mut all = Self { by_name: HashMap::new(), in_order: Vec::new() };
        for config in models {
            let model = Arc::new(Model::new(config, &known)?);
            if all.by_name.insert(Arc::clone(&model.name), Arc::clone(&model)).is_some() {
                return Err(ConfigError::Twice { what: "model", name: config.name.clone() });
            }
            all.in_order.push(model);
        }
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
}

impl Model {
    fn new(
        config: &ModelConfig,
        known: &HashMap<&str, Arc<Provider>>,
    ) -> Result<Self, ConfigError> {
        let routes = config.routes.iter().map(|route| {
            let provider =
                known.get(route.provider.as_str()).ok_or_else(|| ConfigError::UnknownProvider {
                    model: config.name.clone(),
                    provider: route.provider.clone(),
                })?;
            Ok(Route {
                provider: Arc::clone(provider),
                upstream_model: route.model.as_deref().unwrap_or(&config.name).into(),
                weight: route.weight,
                priority: route.priority,
            })
        });
        let mut routes = routes.collect::<Result<Vec<_>, _>>()?;
        routes.sort_by_key(|route| route.priority);
        let mut routes = routes.into_iter();
        let first = routes.next().ok_or_else(|| ConfigError::NoRoutes(config.name.clone()))?;
        Ok(Self {
            name: config.name.as_str().into(),
            config: config.clone(),
            first,
            others: routes.collect(),
            turn: AtomicU64::new(0),
        })
    }

    /// The public name.
    pub const fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Its settings.
    pub const fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The routes in the order to try them, the first and the others: by priority, and within one
    /// by turns according to their weights.
    pub fn routes(&self) -> (&Route, Vec<&Route>) {
        if self.others.is_empty() {
            return (&self.first, Vec::new());
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let all: Vec<&Route> = std::iter::once(&self.first).chain(&self.others).collect();
        let groups = all.chunk_by(|one, two| one.priority == two.priority);
        let mut ordered = groups.flat_map(|group| by_turn(group, turn));
        let first = ordered.next().unwrap_or(&self.first);
        (first, ordered.collect())
    }
}

/// The group with the one whose turn it is in front.
fn by_turn<'a>(group: &[&'a Route], turn: u64) -> Vec<&'a Route> {
    let total: u64 = group.iter().map(|route| u64::from(route.weight)).sum();
    let mut place = turn.checked_rem(total).unwrap_or(0);
    let first = group.iter().position(|route| {
        let weight = u64::from(route.weight);
        let mine = place < weight;
        place = place.saturating_sub(weight);
        mine
    });
    let first = first.unwrap_or(0);
    let (before, from) = group.split_at(first);
    from.iter().chain(before).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ProviderKind, RouteConfig};

    fn route(provider: &str, weight: u32, priority: u32) -> RouteConfig {
        RouteConfig { provider: provider.to_owned(), model: None, weight, priority }
    }

    fn models(routes: Vec<RouteConfig>) -> Result<Models, ConfigError> {
        let providers =
            ["a", "b", "c"].map(|name| ProviderConfig::new(name, ProviderKind::Sim, ""));
        let model = ModelConfig { routes, ..ModelConfig::new("m", "a", None) };
        Models::new(&providers, &[model])
    }

    #[test]
    fn routes_take_turns_by_weight_and_lower_priorities_come_last() {
        let models = models(vec![route("c", 1, 9), route("a", 3, 0), route("b", 1, 0)]).unwrap();
        let model = models.find("m").unwrap();
        let firsts: Vec<String> =
            (0..4).map(|_| model.routes().0.provider.name().to_string()).collect();
        assert_eq!(firsts, ["a", "a", "a", "b"]);
        assert_eq!(model.routes().1[1].provider.name().as_ref(), "c");
    }

    #[test]
    fn mistakes_are_named() {
        assert!(matches!(models(vec![]), Err(ConfigError::NoRoutes(_))));
        let unknown = models(vec![route("nobody", 1, 0)]).unwrap_err();
        assert!(unknown.to_string().contains("\"nobody\""));
        let bad = ProviderConfig::new("x", ProviderKind::OpenAi, "ftp:/nowhere");
        assert!(matches!(Models::new(&[bad], &[]), Err(ConfigError::Provider { .. })));
    }
}
