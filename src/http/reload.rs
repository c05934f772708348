//! Certificates and limits anew, without an end of anything: asked of the composition root, which alone may touch them.

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Shared,
    answer::ReadProblems,
    auth::Operator,
    problem::{Code, Problem},
};

/// Reloads that wait for the one under way. Each reads some files; more people at once have no reason to ask.
const WAITING_MAX: usize = 4;

/// What a reload came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Reloaded {
    /// Why nothing was taken over: what was in force still is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// What was in force before and is not now: settings by their names, and `certificates`.
    pub taken: Vec<String>,
    /// Settings that were changed since the start, and need another one.
    pub restart: Vec<String>,
}

impl Reloaded {
    pub fn refused(reason: impl Into<String>) -> Reloaded {
        Reloaded { refused: Some(reason.into()), taken: Vec::new(), restart: Vec::new() }
    }
}

/// Where a reload is asked for; all clones lead to the same one.
#[derive(Debug, Clone)]
pub struct Reloads(mpsc::Sender<ReloadOrder>);

/// Answered when the reload is over.
pub type ReloadOrder = oneshot::Sender<Reloaded>;

impl Reloads {
    pub fn channel() -> (Reloads, mpsc::Receiver<ReloadOrder>) {
        let (orders, waiting) = mpsc::channel(WAITING_MAX);
        (Reloads(orders), waiting)
    }

    /// `None` of an engine that stops.
    pub async fn ask(&self) -> Option<Reloaded> {
        let (answer, answered) = oneshot::channel();
        self.0.send(answer).await.ok()?;
        answered.await.ok()
    }
}

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(reload))
}

/// Reads settings and certificates anew, and takes over what a running engine can. No connection is dropped.
#[utoipa::path(post, path = "/v1/reload", tag = "operator", security(("operator" = [])),
    responses((status = 200, body = Reloaded), ReadProblems))]
async fn reload(State(shared): State<Shared>, _: Operator) -> Result<Json<Reloaded>, Problem> {
    let reloaded = shared.surface.reloads.ask().await;
    reloaded.map(Json).ok_or_else(|| Problem::new(Code::Unavailable, "the engine stops"))
}
