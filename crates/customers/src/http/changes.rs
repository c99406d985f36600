//! `GET /api/v1/changes` and `POST /api/v1/events`: what followers ask, and are told.

use ::http::StatusCode;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use identity::{Authenticated, PLATFORM};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use web::{Envelope, Query};

use crate::{Customers, Entity, Error, FeedPage, FeedRequest, Run, Sync};

/// Ask what has changed
///
/// For servers that follow this one. Rows come in the order of change, deletions among them; continue with
/// the last row's `updated_at` as `since` and its `id` as `after`, and begin a little before what you last
/// heard: what is committed late has an earlier time. With `full` come all rows there are, by id: what is
/// not among them is gone. An administrator sees everybody's rows, others their own organization's.
#[utoipa::path(get, path = "/changes", operation_id = "list_changes", tag = "customers",
    params(("entity" = Entity, Query, description = "Of what"),
        ("since" = Option<i64>, Query, description = "Only what changed after this: microseconds since 1970 on this server's clock"),
        ("after" = Option<String>, Query, description = "With `since`: or at that time, with a later id; with `full`: only later ids"),
        ("full" = Option<bool>, Query, description = "Everything there is now instead of changes"),
        ("rows" = Option<u32>, Query, description = "1 to 1000, 500 by default")),
    responses((status = 200, body = Envelope<FeedPage>), (status = 400, description = "The query is not valid"),
        (status = 401, description = "No valid credential")),
    security(("api_key" = [])))]
pub(super) async fn list_changes(
    State(customers): State<Customers>,
    Authenticated(caller): Authenticated,
    Query(request): Query<FeedRequest>,
) -> web::Result<Envelope<FeedPage>> {
    Ok(Envelope::ok(customers.changes(&caller, &request).await?))
}

/// What an upstream tells.
#[derive(Deserialize, ToSchema)]
pub(super) struct Event {
    /// What has changed there.
    entity: Entity,
}

/// What is made of it.
#[derive(Serialize, ToSchema)]
pub(super) struct Triggered {
    /// What is asked for now.
    entity: Entity,
}

/// Tell that something has changed upstream
///
/// For the upstream, signed as an application of the platform's organization. An event is believed no
/// further than this: the upstream is asked at once.
#[utoipa::path(post, path = "/events", operation_id = "create_event", tag = "customers", request_body = Event,
    responses((status = 202, body = Envelope<Triggered>), (status = 400, description = "The request is not valid"),
        (status = 401, description = "No valid credential"), (status = 403, description = "Not of the platform's organization"),
        (status = 409, description = "No upstream is configured")),
    security(("api_key" = [])))]
pub(super) async fn create_event(
    State(sync): State<Sync>,
    Authenticated(caller): Authenticated,
    web::Json(event): web::Json<Event>,
) -> web::Result<Response> {
    if caller.org_id.as_str() != PLATFORM {
        return Err(Error::PlatformOnly.into());
    }
    sync.request(event.entity, Run::Changes).await?;
    let triggered = Envelope::ok(Triggered { entity: event.entity });
    Ok((StatusCode::ACCEPTED, triggered).into_response())
}
