//! The terminal's calls: who is on the forecourt, which vehicle is fuelled, what was sold.

use axum::{
    Json,
    extract::State,
    http::{HeaderName, Method, StatusCode, header},
    response::{IntoResponse as _, Response, sse::Event},
};
use serde::{Deserialize, Serialize};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Shared,
    answer::{
        KeyedProblems, OfOrder, OfSession, OfStation, OfStationEvents, OfStationWrite, OrderProblems, ReadProblems,
        SelectProblems, SessionAnswer, answer, order, visible,
    },
    auth::{Caller, Terminal, UntilVoid},
    events::{After, EventStream, Source, Watch, Watching, named},
    extract::{Named, Nothing},
    idempotency::{Write, session_of},
    problem::{Code, Problem},
    trace::concerning,
};
use crate::{
    engine::{
        id::{BindingId, PumpNumber, SessionId, StationId},
        money::Money,
        plate::Query,
        time::UnixMs,
    },
    session::{By, Command, Completion, Prices, Quote, Request, SessionView, Sessions},
    station::{Candidate, Select, Selection, StationEvent, Stations, VehicleView},
    telemetry::{self, trace::Origin},
};

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(vehicles))
        .routes(routes!(events))
        .routes(routes!(select))
        .routes(routes!(set_prices))
        .routes(routes!(view))
        .routes(routes!(reserve))
        .routes(routes!(start_fuelling))
        .routes(routes!(complete))
        .routes(routes!(correct))
        .routes(routes!(release))
        .routes(routes!(paid_at_site))
        .routes(routes!(cleared))
}

/// The vehicles on a forecourt at one moment.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Vehicles {
    at: UnixMs,
    vehicles: Vec<VehicleView>,
}

impl Vehicles {
    fn now(vehicles: Vec<VehicleView>) -> Vehicles {
        Vehicles { at: telemetry::now(), vehicles }
    }
}

/// The vehicles that are present now.
#[utoipa::path(get, path = "/v1/stations/{station}/vehicles", tag = "terminal", params(OfStation),
    security(("terminal" = [])), responses((status = 200, body = Vehicles), ReadProblems))]
async fn vehicles(
    State(shared): State<Shared>,
    terminal: Terminal,
    Named(station): Named<StationId>,
) -> Result<Json<Vehicles>, Problem> {
    let vehicles = shared.surface.stations.vehicles(terminal.at(station)?).await?;
    Ok(Json(Vehicles::now(vehicles)))
}

/// The forecourt and its sessions as a terminal shows them.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Present {
    at: UnixMs,
    vehicles: Vec<VehicleView>,
    /// Those that are not at an end, and those that came to one since the `Last-Event-ID`: of a day, and the last 64.
    sessions: Vec<SessionView>,
}

/// Live changes: a `snapshot` of the vehicles and sessions, then `presence` and `session` events. A reader that falls
/// behind gets a new `snapshot`. A stream that was cut goes on with its last `id` as `Last-Event-ID`; presence has no ids,
/// for a snapshot holds all of it.
#[utoipa::path(get, path = "/v1/stations/{station}/events", operation_id = "station_events", tag = "terminal",
    params(OfStationEvents),
    security(("terminal" = [])),
    responses((status = 200, body = StationEvent, content_type = "text/event-stream"), ReadProblems))]
async fn events(
    State(shared): State<Shared>,
    terminal: Terminal,
    Named(station): Named<StationId>,
    after: After,
    until_void: UntilVoid,
) -> Result<EventStream, Problem> {
    let station = terminal.at(station)?;
    let source = Forecourt { stations: shared.surface.stations, sessions: shared.surface.sessions, station };
    shared.events.stream(source, after, until_void).await
}

/// One station's changes.
struct Forecourt {
    stations: Stations,
    sessions: Sessions,
    station: StationId,
}

impl Source for Forecourt {
    type Snapshot = Present;
    type Change = StationEvent;

    fn watch(&self, after: Option<u64>) -> Watching<'_, Present, StationEvent> {
        Box::pin(async move {
            // Watched first: a change between the two is told twice rather than never.
            let (vehicles, changes) = self.stations.watch(self.station).await?;
            let told = self.sessions.tell_station(self.station, after).await?;
            let visible = |view| visible(By::Station(self.station), view);
            let sessions = told.sessions.into_iter().map(visible).collect();
            let snapshot = Present { at: telemetry::now(), vehicles, sessions };
            Ok(Watch { id: told.seq, snapshot, changes })
        })
    }

    fn id(change: &StationEvent) -> Option<u64> {
        match change {
            StationEvent::Presence { .. } => None,
            StationEvent::Session { session } => Some(session.seq),
        }
    }

    fn event(&self, change: StationEvent) -> Event {
        match change {
            StationEvent::Presence { .. } => named("presence", &change),
            StationEvent::Session { session } => {
                let session = visible(By::Station(self.station), *session);
                named("session", &StationEvent::Session { session: session.into() })
            }
        }
    }
}

/// Picks a vehicle to fuel.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct Selecting {
    /// At least two characters of the plate; by custom its last four digits.
    plate: String,
    pump: Option<PumpNumber>,
    /// One of the candidates of an earlier PLATE_AMBIGUOUS. A new key, since it is another request.
    candidate: Option<BindingId>,
}

const SELECT: &str = "/v1/stations/{station}/sessions";

/// Selects a vehicle by part of its plate. When several fit, nothing is created: the answer lists the `candidates`,
/// and the same call with one of them as `candidate` (and a new key) picks it.
#[utoipa::path(post, path = "/v1/stations/{station}/sessions", tag = "terminal", params(OfStationWrite),
    security(("terminal" = [])), request_body = Selecting,
    responses((status = 201, body = SessionView), SelectProblems))]
async fn select(
    State(shared): State<Shared>,
    terminal: Terminal,
    Named(station): Named<StationId>,
    origin: Origin,
    write: Write<Selecting>,
) -> Result<Response, Problem> {
    let by = By::Station(terminal.at(station)?);
    let running = shared.in_flight.begin(by, &write)?;
    let session = session_of(station, &running.request);
    let opened = async move { open(&shared, station, session, write.body, running.request).await.into_response() };
    Ok(concerning(session, &Method::POST, SELECT, origin, opened).await)
}

async fn open(
    shared: &Shared,
    station: StationId,
    session: SessionId,
    selecting: Selecting,
    request: Request,
) -> Result<(StatusCode, [(HeaderName, String); 1], Json<SessionView>), Problem> {
    let select = Select {
        query: Query::parse(&selecting.plate)?,
        pump: selecting.pump,
        candidate: selecting.candidate,
        request,
        session,
    };
    match shared.surface.stations.select(station, select).await? {
        Selection::Opened(view) => {
            let location = [(header::LOCATION, format!("/v1/sessions/{}", view.id))];
            Ok((StatusCode::CREATED, location, Json(visible(By::Station(station), *view))))
        }
        Selection::Ambiguous(candidates) => Err(ambiguous(&candidates)),
    }
}

fn ambiguous(candidates: &[Candidate]) -> Problem {
    let detail = format!("{} vehicles on the forecourt fit; choose one as `candidate`", candidates.len());
    Problem::new(Code::PlateAmbiguous, detail).with("candidates", candidates)
}

/// Replaces the station's unit prices.
#[utoipa::path(put, path = "/v1/stations/{station}/prices", tag = "terminal", params(OfStationWrite),
    security(("terminal" = [])), request_body = Prices, responses((status = 204), KeyedProblems))]
async fn set_prices(
    State(shared): State<Shared>,
    terminal: Terminal,
    Named(station): Named<StationId>,
    write: Write<Prices>,
) -> Result<StatusCode, Problem> {
    let running = shared.in_flight.begin(By::Station(terminal.at(station)?), &write)?;
    shared.surface.sessions.set_prices(station, write.body, running.request).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A session as it is now: a station sees its own, a phone its own, an operator all.
#[utoipa::path(get, path = "/v1/sessions/{id}", tag = "terminal", params(OfSession),
    security(("terminal" = []), ("phone" = []), ("operator" = [])),
    responses((status = 200, body = SessionView), (status = 202, body = SessionView,
    description = "The payment has no clear outcome yet."), ReadProblems))]
async fn view(State(shared): State<Shared>, Caller(by): Caller, Named(session): Named<SessionId>) -> SessionAnswer {
    Ok(answer(by, shared.surface.sessions.view(session, by).await?))
}

/// Takes a pump.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct Reservation {
    pump: PumpNumber,
    /// The most that the driver wants to spend.
    preset: Option<Money>,
    /// Holds the preset amount on the means of payment before fuel flows.
    #[serde(default)]
    hold: bool,
    /// The unit price that the driver was shown.
    quote: Option<Quote>,
}

/// Reserves a pump. With `hold` it answers when the hold is approved or declined, 30 s at most.
#[utoipa::path(post, path = "/v1/sessions/{id}/reservation", tag = "terminal", params(OfOrder),
    security(("terminal" = [])), request_body = Reservation,
    responses((status = 200, body = SessionView), OrderProblems))]
async fn reserve(
    State(shared): State<Shared>,
    Terminal(station): Terminal,
    Named(session): Named<SessionId>,
    mut write: Write<Reservation>,
) -> SessionAnswer {
    let quote = write.body.quote.take();
    let Reservation { pump, preset, hold, .. } = write.body;
    let command = Command::Reserve { pump, preset, hold, quote };
    order(&shared, By::Station(station), session, &write, command).await
}

#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct Fuelling {
    /// Where the nozzle was lifted, if it was not reserved.
    pump: Option<PumpNumber>,
}

/// Fuel flows.
#[utoipa::path(post, path = "/v1/sessions/{id}/fuelling", tag = "terminal", params(OfOrder),
    security(("terminal" = [])), request_body = Fuelling,
    responses((status = 200, body = SessionView), OrderProblems))]
async fn start_fuelling(
    State(shared): State<Shared>,
    Terminal(station): Terminal,
    Named(session): Named<SessionId>,
    write: Write<Fuelling>,
) -> SessionAnswer {
    let command = Command::StartFuelling { pump: write.body.pump };
    order(&shared, By::Station(station), session, &write, command).await
}

/// The nozzle is back: what was sold. The same site transaction with the same contents has the same answer.
#[utoipa::path(post, path = "/v1/sessions/{id}/completion", tag = "terminal", params(OfOrder),
    security(("terminal" = [])), request_body = Completion,
    responses((status = 200, body = SessionView), (status = 202, body = SessionView,
    description = "The payment has no clear outcome yet."), OrderProblems))]
async fn complete(
    State(shared): State<Shared>,
    Terminal(station): Terminal,
    Named(session): Named<SessionId>,
    write: Write<Completion>,
) -> SessionAnswer {
    let command = Command::Complete(write.body.clone());
    order(&shared, By::Station(station), session, &write, command).await
}

/// The completion was wrong, this is right; the phone is challenged anew.
#[utoipa::path(post, path = "/v1/sessions/{id}/correction", tag = "terminal", params(OfOrder),
    security(("terminal" = [])), request_body = Completion,
    responses((status = 200, body = SessionView), OrderProblems))]
async fn correct(
    State(shared): State<Shared>,
    Terminal(station): Terminal,
    Named(session): Named<SessionId>,
    write: Write<Completion>,
) -> SessionAnswer {
    let command = Command::Correct(write.body.clone());
    order(&shared, By::Station(station), session, &write, command).await
}

/// Nobody fuels: the vehicle and the pump are free again.
#[utoipa::path(post, path = "/v1/sessions/{id}/release", tag = "terminal", params(OfOrder),
    security(("terminal" = [])), responses((status = 200, body = SessionView), OrderProblems))]
async fn release(
    State(shared): State<Shared>,
    Terminal(station): Terminal,
    Named(session): Named<SessionId>,
    write: Write<Nothing>,
) -> SessionAnswer {
    order(&shared, By::Station(station), session, &write, Command::Release).await
}

/// The driver paid at the counter.
#[utoipa::path(post, path = "/v1/sessions/{id}/paid-at-site", tag = "terminal", params(OfOrder),
    security(("terminal" = [])), responses((status = 200, body = SessionView), OrderProblems))]
async fn paid_at_site(
    State(shared): State<Shared>,
    Terminal(station): Terminal,
    Named(session): Named<SessionId>,
    write: Write<Nothing>,
) -> SessionAnswer {
    order(&shared, By::Station(station), session, &write, Command::PaidAtSite).await
}

/// The site has booked the payment.
#[utoipa::path(post, path = "/v1/sessions/{id}/cleared", tag = "terminal", params(OfOrder),
    security(("terminal" = [])), responses((status = 200, body = SessionView), OrderProblems))]
async fn cleared(
    State(shared): State<Shared>,
    Terminal(station): Terminal,
    Named(session): Named<SessionId>,
    write: Write<Nothing>,
) -> SessionAnswer {
    order(&shared, By::Station(station), session, &write, Command::Cleared).await
}
