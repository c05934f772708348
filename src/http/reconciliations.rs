//! What became of the comparison of our books with the PSP's, day by day.

use axum::{Json, extract::State};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Shared,
    answer::ReadProblems,
    auth::Operator,
    extract::Named,
    problem::{Code, Problem},
};
use crate::payment::reconciliation::{self, Day, Reconciliation};

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(of_day))
}

/// The reconciliation of a day of UTC, as the night made it, or `forecourt reconcile`.
#[utoipa::path(get, path = "/v1/reconciliations/{date}", tag = "operator", security(("operator" = [])),
    params(("date" = String, Path, description = "2026-11-24")),
    responses((status = 200, body = Reconciliation), ReadProblems))]
async fn of_day(
    State(shared): State<Shared>,
    _: Operator,
    Named(day): Named<Day>,
) -> Result<Json<Reconciliation>, Problem> {
    let folder = shared.surface.reconciliations.clone();
    let stored = tokio::task::spawn_blocking(move || reconciliation::stored(&folder, day)).await;
    match stored {
        Ok(Ok(Some(reconciliation))) => Ok(Json(reconciliation)),
        Ok(Ok(None)) => Err(Problem::new(Code::NotFound, format!("{day} is not reconciled"))),
        Ok(Err(error)) => {
            tracing::error!(%error, %day, "a reconciliation cannot be shown");
            Err(Problem::new(Code::Unavailable, "the reconciliation cannot be read"))
        }
        Err(_) => Err(Problem::new(Code::Unavailable, "the engine stops")),
    }
}
