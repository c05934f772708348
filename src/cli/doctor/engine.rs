//! How the running engine is, by its own word.

use serde_json::Value;

use super::{super::running::Running, Finding};

pub(super) fn check(running: &Running) -> Finding {
    const CHECK: &str = "engine";
    const MEND: &str = "its log says more; grafana/runbooks.md says what to do";
    let (Some(_), Some(health)) = (running.addresses, &running.health) else {
        return Finding::warn(CHECK, "it does not answer yet", "wait for its start; if that does not end, see its log");
    };
    let lacks = lacks(health);
    let degraded = degraded(health);
    if health["ready"] != true {
        Finding::wrong(CHECK, format!("not ready: {}", lacks.join(", ")), MEND)
    } else if !degraded.is_empty() {
        Finding::warn(CHECK, format!("ready, and degraded: {}", degraded.join(", ")), MEND)
    } else {
        Finding::ok(CHECK, "ready")
    }
}

fn lacks(health: &Value) -> Vec<String> {
    let parts = health["parts"].as_array().into_iter().flatten().filter(|part| part["ready"] != true);
    let text = |value: &Value| value.as_str().unwrap_or("unknown").to_owned();
    parts.map(|part| format!("{} ({})", text(&part["part"]), text(&part["reason"]))).collect()
}

/// What the engine does without.
fn degraded(health: &Value) -> Vec<String> {
    let fine =
        [("cache", ["current", "behind"]), ("gateway", ["reachable", "probing"]), ("reload", ["taken", "taken"])];
    let state = |part: &str| health[part]["state"].as_str();
    let mut degraded: Vec<String> = fine
        .iter()
        .filter_map(|(part, fine)| Some((part, state(part).filter(|state| !fine.contains(state))?)))
        .map(|(part, state)| format!("{part} is {state}"))
        .collect();
    let restart: Vec<&str> =
        health["reload"]["restart"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if !restart.is_empty() {
        degraded.push(format!("{} were changed and need a restart", restart.join(" and ")));
    }
    degraded
}

#[cfg(test)]
mod tests {
    use forecourt::app::Addresses;
    use serde_json::json;

    use super::*;

    fn of(health: Value) -> Finding {
        let address = "127.0.0.1:1".parse().unwrap();
        let addresses = Some(Addresses { ingest: address, http: address, metrics: address });
        check(&Running { addresses, health: Some(health), metrics: None })
    }

    #[test]
    fn what_the_engine_lacks_and_does_without_is_told() {
        let parts =
            json!([{ "part": "engine", "ready": true }, { "part": "ledger", "ready": false, "reason": "full" }]);
        let lacking = of(json!({ "ready": false, "parts": parts }));
        assert_eq!(lacking.found, "not ready: ledger (full)");
        let degraded = of(json!({ "ready": true, "parts": [], "cache": { "state": "down" },
            "gateway": { "state": "probing" }, "reload": { "state": "refused", "restart": ["push.url"] } }));
        assert_eq!(
            degraded.found,
            "ready, and degraded: cache is down, reload is refused, push.url were changed and need a restart"
        );
        assert_eq!(of(json!({ "ready": true, "parts": [] })).found, "ready");
    }
}
