//! The running engine against its own OpenAPI document: schemathesis makes up calls, sound and unsound ones, and looks
//! whether each answer is one that the document declares, and none a server error.

use std::{path::Path, process::Command};

use crate::{
    engine::Engine,
    site::{Car, Site},
    tools,
};

/// Calls made up for each operation, beside those that cover its schema's edges.
const CASES: &str = "25";

const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
                      response_headers_conformance,response_schema_conformance";

/// One role's calls. Event streams do not end, and are left out.
fn run(schemathesis: &Path, site: &Site, role: &str, token: &str) {
    let url = format!("http://{}/openapi.json", site.engine.addresses().http);
    let outcome = Command::new(schemathesis)
        .args(["run", &url, "--include-tag", role, "--exclude-path-regex", "/events$"])
        .args(["--header", &format!("Authorization: Bearer {token}")])
        .args(["--checks", CHECKS, "--phases", "examples,coverage,fuzzing", "--max-examples", CASES])
        .args(["--seed", "1", "--generation-deterministic", "--suppress-health-check", "all"])
        .args(["--warnings", "off", "--request-timeout", "30", "--no-color"])
        .current_dir(site.engine.folder())
        .output()
        .expect("schemathesis runs");
    let said = String::from_utf8_lossy(&outcome.stdout);
    assert!(outcome.status.success(), "{role}: {said}{}", String::from_utf8_lossy(&outcome.stderr));
    assert!(said.contains("Test cases:"), "no case was made up for {role}: {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_is_one_that_the_document_declares() {
    let Some(python) = tools::folder_with(tools::PYTHON, "bin/schemathesis") else { return };
    let schemathesis = python.join("bin/schemathesis");
    let car = Car::new(7, "12가3456", "tok_ok_7");
    let unlimited =
        ["HTTP_TERMINAL_CALLS_PER_SECOND", "HTTP_OPERATOR_CALLS_PER_SECOND", "HTTP_STRANGER_CALLS_PER_SECOND"]
            .map(|knob| (knob, "0".to_owned()));
    let site = Site::on(Engine::start_with(&unlimited).await, &[&car]).await;
    let phone = car.phone_token(&site.engine).await;
    run(&schemathesis, &site, "open", "none");
    run(&schemathesis, &site, "phone", &phone);
    run(&schemathesis, &site, "terminal", &site.terminal);
    // Last, since it takes tokens back.
    run(&schemathesis, &site, "operator", site.engine.operator());
}
