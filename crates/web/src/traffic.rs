//! Figures of requests, by route.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::extract::{MatchedPath, Request};
use http::StatusCode;
use telemetry::{Counter, Counters, Family, Gauge, Histogram, Labels, Metrics, histograms};

/// What requests to unknown and unlisted paths are counted as.
const OTHER: &str = "other";
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// Requests counted by route. The routes are given beforehand: a path that a client makes up is
/// counted with all others that have no route, so the figures stay as many as they are.
#[derive(Debug)]
pub struct Traffic {
    routes: HashMap<String, Arc<Route>>,
    other: Arc<Route>,
    in_flight: Arc<AtomicUsize>,
    errors: Family<[(&'static str, &'static str); 1], Counter>,
}

/// One route's figures.
#[derive(Debug)]
pub(crate) struct Route {
    /// Answers say how much time was spent here.
    pub(crate) tells_overhead: bool,
    answers: [Counter; CLASSES.len()],
    in_flight: Gauge,
    /// Those of all routes together.
    all_in_flight: Arc<AtomicUsize>,
    took: Histogram,
    overhead: Histogram,
}

impl Traffic {
    /// Counts requests to these routes (templates such as `/v1/models/{model}`), and adds the
    /// figures to `metrics`.
    pub fn new(templates: impl IntoIterator<Item = String>, metrics: &mut Metrics) -> Self {
        let answers = Counters::default();
        let in_flight = Family::<Labels, Gauge>::default();
        let (took, overhead) = (histograms(), histograms());
        let all_in_flight = Arc::<AtomicUsize>::default();
        let route = |template: &str| {
            let surface = surface(template);
            let labels = vec![("surface", surface.to_owned()), ("route", template.to_owned())];
            let answers = CLASSES.map(|class| {
                let mut labels = labels.clone();
                labels.push(("status", class.to_owned()));
                answers.get_or_create_owned(&labels)
            });
            Arc::new(Route {
                tells_overhead: surface == "v1",
                answers,
                in_flight: in_flight.get_or_create_owned(&vec![("surface", surface.to_owned())]),
                all_in_flight: Arc::clone(&all_in_flight),
                took: took.get_or_create_owned(&labels),
                overhead: overhead.get_or_create_owned(&labels),
            })
        };
        let other = route(OTHER);
        let routes = templates.into_iter().map(|template| (template.clone(), route(&template)));
        let routes = routes.collect();
        let errors = Family::default();
        metrics.add("ledgerline_http_requests", "Requests answered", answers);
        metrics.add("ledgerline_http_requests_in_flight", "Requests not yet answered", in_flight);
        metrics.add(
            "ledgerline_http_request_duration_seconds",
            "From a request's headers to the last byte of its answer",
            took,
        );
        metrics.add(
            "ledgerline_overhead_seconds",
            "From a request's headers to those of its answer, without the time the upstream took",
            overhead,
        );
        metrics.add("ledgerline_errors", "Errors answered, by code", errors.clone());
        Self { routes, other, in_flight: all_in_flight, errors }
    }

    /// Requests that are being answered now, streams to their last byte.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// The figures of a request's route.
    pub(crate) fn route(&self, request: &Request) -> &Arc<Route> {
        let path = request.extensions().get::<MatchedPath>();
        path.and_then(|path| self.routes.get(path.as_str())).unwrap_or(&self.other)
    }

    /// An error was answered.
    pub(crate) fn failed(&self, code: &'static str) {
        self.errors.get_or_create(&[("code", code)]).inc();
    }
}

/// The part of the API that a route belongs to.
fn surface(template: &str) -> &str {
    template.trim_start_matches('/').split('/').next().unwrap_or(template)
}

/// A request that is being answered: counted while this lives.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<Route>);

impl InFlight {
    pub(crate) fn new(route: &Arc<Route>) -> Self {
        route.in_flight.inc();
        route.all_in_flight.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(route))
    }

    /// The answer's headers are ready; so much of the time was spent here.
    pub(crate) fn spent(&self, here: Duration) {
        self.0.overhead.observe(here.as_secs_f64());
    }

    /// The answer was sent, or its client has left.
    pub(crate) fn answered(&self, status: StatusCode, took: Duration) {
        let class = usize::from(status.as_u16() / 100).saturating_sub(1);
        if let Some(counter) = self.0.answers.get(class) {
            counter.inc();
        }
        self.0.took.observe(took.as_secs_f64());
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.dec();
        self.0.all_in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
