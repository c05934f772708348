//! The page of a run: one file, no script, nothing fetched.

use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde_json::{Map, Value};

use super::{
    Curve, Latencies, Run, Series, Table, Verdict,
    chart::{self, Chart, Scale},
    figures::Line,
    numbers::grouped,
};

const STYLE: &str = include_str!("style.css");

pub(super) fn render(run: &Run) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (run.title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                (heading(run))
                (thresholds(&run.thresholds))
                (section("Figures", &figures(&run.summary)))
                (lists(&run.summary))
                (section("Latency", &latencies(&run.latencies)))
                (section("Over time", &html! { @for series in &run.series { (over_time(series)) } }))
                (section("Growth", &html! { @for curve in &run.curves { (growth(curve)) } }))
                @for table in &run.tables { (tabulated(table)) }
                (notes(&run.notes))
                (facts("Conditions", run.conditions.iter().map(|(name, value)| (name.clone(), value.clone()))))
                (facts("Host and build", host(&run.host)))
            }
        }
    }
}

fn heading(run: &Run) -> Markup {
    let missed = run.thresholds.iter().filter(|verdict| !verdict.held).count();
    html! {
        header {
            div {
                h1 { (run.title) }
                p { code { (run.command) } " " span.when { (httpdate::fmt_http_date(run.started)) } }
            }
            @if missed > 0 {
                strong.badge.bad { (missed) " of " (run.thresholds.len()) " thresholds missed" }
            } @else if !run.thresholds.is_empty() {
                strong.badge.good { "all thresholds held" }
            }
        }
    }
}

fn section(title: &str, content: &Markup) -> Markup {
    html! {
        @if !content.0.is_empty() {
            section { h2 { (title) } div.charts { (content) } }
        }
    }
}

fn thresholds(verdicts: &[Verdict]) -> Markup {
    let row = |verdict: &Verdict| {
        html! {
            tr {
                th { (verdict.key) }
                td { (verdict.bound.to_string()) }
                td { (grouped(verdict.value)) }
                td { @if verdict.held { span.good { "held" } } @else { span.bad { "missed" } } }
            }
        }
    };
    html! {
        @if !verdicts.is_empty() {
            section {
                h2 { "Thresholds" }
                table {
                    thead { tr { th { "key" } th { "bound" } th { "value" } th { "" } } }
                    tbody { @for verdict in verdicts { (row(verdict)) } }
                }
            }
        }
    }
}

fn figures(summary: &Map<String, Value>) -> Markup {
    let flat = summary.iter().filter_map(|(key, value)| Some((key, word(value)?)));
    let tiles: Vec<Markup> = flat.map(|(key, value)| html! { div.figure { b { (value) } span { (key) } } }).collect();
    html! { @for tile in tiles { (tile) } }
}

/// Lists of objects in the summary, such as that of the peers, as tables: what names an item before what it measured.
fn lists(summary: &Map<String, Value>) -> Markup {
    let tables = summary.iter().filter_map(|(key, value)| list(key, value.as_array()?));
    html! { @for table in tables { (tabulated(&table)) } }
}

fn list(title: &str, items: &[Value]) -> Option<Table> {
    let fields = items.first()?.as_object()?;
    let (names, measures): (Vec<_>, Vec<_>) = fields.iter().partition(|(_, value)| value.is_string());
    let columns: Vec<String> = names.into_iter().chain(measures).map(|(key, _)| key.clone()).collect();
    let cell = |item: &Value, column: &String| word(&item[column.as_str()]).unwrap_or_default();
    let rows = items.iter().map(|item| columns.iter().map(|column| cell(item, column)).collect()).collect();
    Some(Table { title: title.into(), columns, rows })
}

fn word(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(truth) => Some(if *truth { "yes" } else { "no" }.into()),
        Value::Number(number) => number.as_f64().map(grouped),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn latencies(all: &[Latencies]) -> Markup {
    let measured: Vec<&Latencies> = all.iter().filter(|latencies| latencies.count() > 0).collect();
    let distributions: Vec<Line> =
        measured.iter().map(|latencies| (latencies.title().to_owned(), latencies.distribution())).collect();
    html! {
        @if !measured.is_empty() {
            (figure("Latency by percentile", "ms", &distributions, [Scale::Tail, Scale::Log], "percentile"))
            (quantiles(&measured))
            @for latencies in measured { (over_seconds(latencies)) }
        }
    }
}

fn quantiles(all: &[&Latencies]) -> Markup {
    const SHOWN: [(&str, f64); 5] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)];
    html! {
        figure {
            figcaption { "Latencies" span.unit { "ms" } }
            table {
                thead { tr { th { "" } th { "count" } @for (name, _) in SHOWN { th { (name) } } } }
                tbody {
                    @for latencies in all {
                        tr {
                            th { (latencies.title()) }
                            td { (grouped(latencies.count() as f64)) }
                            @for (_, quantile) in SHOWN { td { (grouped(latencies.quantile(quantile))) } }
                        }
                    }
                }
            }
        }
    }
}

fn over_seconds(latencies: &Latencies) -> Markup {
    let seconds = latencies.seconds();
    let line = |name: &str, of: fn(&super::latencies::Second) -> f64| -> Line {
        (name.into(), seconds.iter().map(|second| (second.at as f64, of(second))).collect())
    };
    let lines = [line("p50", |second| second.p50), line("p99", |second| second.p99), line("max", |second| second.max)];
    figure(latencies.title(), "ms", &lines, [Scale::Linear, Scale::Linear], "seconds since the start")
}

fn over_time(series: &Series) -> Markup {
    figure(&series.title, &series.unit, &series.lines, [Scale::Linear, Scale::Linear], "seconds since the start")
}

fn growth(curve: &Curve) -> Markup {
    let scale = |log| if log { Scale::Log } else { Scale::Linear };
    figure(&curve.title, &curve.y_label, &curve.lines, [scale(curve.log_x), scale(curve.log_y)], &curve.x_label)
}

fn figure(title: &str, unit: &str, lines: &[Line], scales: [Scale; 2], x_label: &str) -> Markup {
    html! {
        figure {
            figcaption { (title) span.unit { (unit) } }
            (Chart::new(lines, scales, x_label, title).svg())
            @if lines.len() > 1 {
                ul.legend {
                    @for (place, (name, _)) in lines.iter().enumerate() {
                        li { (swatch(place)) (name) }
                    }
                }
            }
        }
    }
}

fn swatch(place: usize) -> Markup {
    html! { svg viewBox="0 0 20 10" aria-hidden="true" { g class=(chart::class(place)) { polyline points="1,5 19,5" {} } } }
}

fn tabulated(table: &Table) -> Markup {
    html! {
        section {
            h2 { (table.title) }
            table {
                thead {
                    tr { @for (place, column) in table.columns.iter().enumerate() { th class=(side(table, place)) { (column) } } }
                }
                tbody {
                    @for row in &table.rows {
                        tr { @for (place, cell) in row.iter().enumerate() { td class=(side(table, place)) { (cell) } } }
                    }
                }
            }
        }
    }
}

/// Figures stand at the right of their column, words at the left.
fn side(table: &Table, place: usize) -> &'static str {
    let is_figure = |cell: &String| cell.starts_with(|c: char| c.is_ascii_digit() || c == '-');
    let cells = table.rows.iter().filter_map(|row| row.get(place));
    if place > 0 && cells.filter(|cell| !cell.is_empty()).all(is_figure) { "figures" } else { "words" }
}

fn notes(notes: &[String]) -> Markup {
    html! {
        @if !notes.is_empty() {
            section { h2 { "Notes" } ul.notes { @for note in notes { li { (note) } } } }
        }
    }
}

fn facts(title: &str, facts: impl Iterator<Item = (String, String)>) -> Markup {
    let rows: Vec<Markup> = facts.map(|(name, value)| html! { dt { (name) } dd { (value) } }).collect();
    html! {
        @if !rows.is_empty() {
            section { h2 { (title) } dl { @for row in rows { (row) } } }
        }
    }
}

fn host(host: &Value) -> impl Iterator<Item = (String, String)> {
    let facts = host.as_object().into_iter().flatten();
    facts.map(|(name, value)| (name.replace('_', " "), word(value).unwrap_or_else(|| value.to_string())))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::report::Bound;

    const HOSTILE: &str = "<script>alert(\"&\")</script>";

    fn run() -> Run {
        let mut run = Run::new("loadtest fleet small.toml", "A small fleet");
        run.summary.insert("frames_per_second".into(), 880_000.into());
        run.summary.insert("peers".into(), json!([{"name": "nats", "lost": 3}]));
        run
    }

    #[test]
    fn nothing_that_was_said_becomes_markup() {
        let mut run = run();
        run.title = HOSTILE.into();
        run.command = HOSTILE.into();
        run.notes.push(HOSTILE.into());
        run.conditions.push((HOSTILE.into(), HOSTILE.into()));
        run.host = json!({HOSTILE: HOSTILE});
        run.summary.insert(HOSTILE.into(), HOSTILE.into());
        run.thresholds.push(Verdict::new(HOSTILE, Bound::AtMost(1.0), 2.0));
        run.tables.push(Table {
            title: HOSTILE.into(),
            columns: vec![HOSTILE.into()],
            rows: vec![vec![HOSTILE.into()]],
        });
        let page = render(&run).into_string();
        assert!(!page.contains("<script") && page.contains("&lt;script&gt;"), "{page}");
    }

    #[test]
    fn the_page_fetches_nothing() {
        let mut run = run();
        let mut latencies = Latencies::new("plate", "Plate query");
        latencies.record(Duration::ZERO, Duration::from_millis(2));
        run.latencies.push(latencies);
        let page = render(&run).into_string();
        for fetching in ["http:", "https:", "src=", "url(", "@import", "<link", "<script"] {
            assert!(!page.contains(fetching), "{fetching}");
        }
    }

    #[test]
    fn figures_are_grouped_and_lists_become_tables() {
        let page = render(&run()).into_string();
        assert!(page.contains("880,000"));
        assert!(page.contains("<h2>peers</h2>"));
    }

    #[test]
    fn a_missed_threshold_is_said_at_the_top() {
        let mut run = run();
        run.thresholds.push(Verdict::new("missed", Bound::AtMost(0.0), 2.0));
        assert!(render(&run).into_string().contains("1 of 1 thresholds missed"));
    }
}
