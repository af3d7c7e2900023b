//! Rehearsals of departures: what the admin port asks of the process, and the pages.
//!
//! `POST /rehearsal?broker=2&for=10s` begins one and returns at once; `GET /rehearsal` tells of the one that runs or ran last; `DELETE`
//! ends it. It ends by itself, whoever asked for it is gone or not.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::{Deserialize, Serialize};

use super::MaskedStatus;

/// As the composition root does it. Called on the admin port's tasks: answers at once.
pub trait Rehearse: Send + Sync {
    fn start(&self, broker: i32, lasting: Duration) -> Result<RehearsalReport, NoRehearsal>;
    fn report(&self) -> Result<RehearsalReport, NoRehearsal>;
    fn stop(&self) -> Result<RehearsalReport, NoRehearsal>;
}

/// Why not, in one line for an operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRehearsal {
    #[error("rehearsals are off: set admin.rehearsal: true in the configuration of this Evenkeel, and restart it")]
    Off,
    #[error("{0}")]
    Invalid(String),
    #[error("{0}")]
    Unknown(String),
    #[error("{0}")]
    NotNow(String),
}

/// One broker, treated as departed for a while.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct RehearsalReport {
    pub broker: i32,
    /// `running`, `over`, `stopped` (on request), `cut_short` (for `because`).
    pub state: String,
    pub because: Option<String>,
    pub asked_seconds: f64,
    pub lasted_seconds: f64,
    /// Client connections whose way to the broker was cut, and ways that were refused meanwhile.
    pub connections_cut: u64,
    pub connections_refused: u64,
    /// Client connections, of whichever broker, that were closed meanwhile since something on them could not be carried elsewhere.
    pub clients_closed: u64,
    pub masked: MaskedStatus,
    pub shows: String,
    pub does_not_show: String,
}

pub(super) fn pages(rehearsals: Arc<dyn Rehearse>) -> Router {
    Router::new().route("/rehearsal", get(report).post(start).delete(stop)).with_state(rehearsals)
}

async fn report(State(rehearsals): State<Arc<dyn Rehearse>>) -> Response {
    answer(StatusCode::OK, rehearsals.report())
}

async fn start(State(rehearsals): State<Arc<dyn Rehearse>>, headers: HeaderMap, RawQuery(query): RawQuery) -> Response {
    if let Some(refused) = refuse_browsers(&headers) {
        return refused;
    }
    let asked = asked_for(query.as_deref().unwrap_or_default());
    answer(StatusCode::ACCEPTED, asked.and_then(|(broker, lasting)| rehearsals.start(broker, lasting)))
}

async fn stop(State(rehearsals): State<Arc<dyn Rehearse>>, headers: HeaderMap) -> Response {
    if let Some(refused) = refuse_browsers(&headers) {
        return refused;
    }
    answer(StatusCode::OK, rehearsals.stop())
}

/// A web page that some operator looks at must not begin one: browsers say where such a request comes from.
fn refuse_browsers(headers: &HeaderMap) -> Option<Response> {
    headers.contains_key(header::ORIGIN).then(|| (StatusCode::FORBIDDEN, "not from a web page\n").into_response())
}

fn asked_for(query: &str) -> Result<(i32, Duration), NoRehearsal> {
    const USAGE: &str = "expected ?broker=ID&for=TIME, such as /rehearsal?broker=2&for=10s";
    let invalid = |what: String| NoRehearsal::Invalid(format!("{what}: {USAGE}"));
    let (mut broker, mut lasting) = (None, None);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some(("broker", id)) => broker = Some(id.parse::<i32>().map_err(|_| invalid(format!("`{id}` is no broker id")))?),
            Some(("for", time)) => lasting = Some(humantime::parse_duration(time).map_err(|_| invalid(format!("`{time}` is no time")))?),
            _ => return Err(invalid(format!("`{pair}` is not known"))),
        }
    }
    broker.zip(lasting).ok_or_else(|| NoRehearsal::Invalid(USAGE.to_owned()))
}

fn answer(success: StatusCode, answer: Result<RehearsalReport, NoRehearsal>) -> Response {
    match answer.map(|report| serde_json::to_vec_pretty(&report)) {
        Ok(Ok(mut json)) => {
            json.push(b'\n');
            (success, [(header::CONTENT_TYPE, "application/json")], json).into_response()
        }
        Ok(Err(error)) => (StatusCode::INTERNAL_SERVER_ERROR, format!("the report cannot be written: {error}\n")).into_response(),
        Err(why) => {
            let status = match why {
                NoRehearsal::Off => StatusCode::FORBIDDEN,
                NoRehearsal::Invalid(_) => StatusCode::BAD_REQUEST,
                NoRehearsal::Unknown(_) => StatusCode::NOT_FOUND,
                NoRehearsal::NotNow(_) => StatusCode::CONFLICT,
            };
            (status, format!("{why}\n")).into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_says_which_broker_and_for_how_long_and_nothing_else() {
        assert_eq!(asked_for("broker=2&for=10s"), Ok((2, Duration::from_secs(10))));
        for wrong in ["", "broker=2", "for=10s", "broker=x&for=10s", "broker=2&for=10", "broker=2&for=10s&forever=1"] {
            assert!(matches!(asked_for(wrong), Err(NoRehearsal::Invalid(what)) if what.contains("?broker=ID&for=TIME")), "{wrong}");
        }
    }
}
