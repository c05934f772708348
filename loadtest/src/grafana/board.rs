//! A dashboard as people write it, and as Grafana reads it. Written in TOML, where a panel is its question, its unit, what
//! it means and its queries; places, colours and all that every panel has alike come from here.

use serde::Deserialize;
use serde_json::{Value, json};

/// Columns of Grafana's grid.
const COLUMNS: u32 = 24;

/// Of the classic JSON model, which every Grafana since version 8 reads.
const SCHEMA_VERSION: u32 = 39;

const DATASOURCE: &str = "${datasource}";

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Board {
    pub uid: String,
    pub title: String,
    pub description: String,
    pub rows: Vec<Row>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    pub title: String,
    pub panels: Vec<Panel>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Panel {
    pub title: String,
    pub kind: Kind,
    /// As Grafana names it: `s`, `bytes`, `percentunit`, `reqps`, `short`.
    pub unit: String,
    /// What it means, and what to think when it is not as usual.
    pub says: String,
    /// Expression and legend.
    pub queries: Vec<(String, String)>,
    #[serde(default)]
    pub orange_from: Option<f64>,
    #[serde(default)]
    pub red_from: Option<f64>,
    #[serde(default)]
    pub orange_below: Option<f64>,
    #[serde(default)]
    pub red_below: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// One number, as it is now.
    Stat,
    /// Lines over time.
    Graph,
    /// Two queries by `rank`: which station, and how bad.
    Ranking,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Stat => "stat",
            Kind::Graph => "timeseries",
            Kind::Ranking => "table",
        }
    }

    /// Columns and rows of the grid.
    fn size(self) -> (u32, u32) {
        match self {
            Kind::Stat => (4, 4),
            Kind::Graph | Kind::Ranking => (8, 8),
        }
    }

    fn options(self) -> Value {
        match self {
            Kind::Stat => json!({
                "colorMode": "value", "graphMode": "area", "justifyMode": "auto", "orientation": "auto",
                "textMode": "auto", "reduceOptions": { "calcs": ["lastNotNull"], "fields": "", "values": false },
            }),
            Kind::Graph => json!({
                "legend": { "calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": true },
                "tooltip": { "mode": "multi", "sort": "desc" },
            }),
            Kind::Ranking => json!({ "showHeader": true, "cellHeight": "sm" }),
        }
    }
}

impl Board {
    pub fn read(text: &str) -> Result<Board, toml::de::Error> {
        toml::from_str(text)
    }

    pub fn panels(&self) -> impl Iterator<Item = &Panel> {
        self.rows.iter().flat_map(|row| &row.panels)
    }

    /// As Grafana reads it.
    pub fn document(&self) -> Value {
        json!({
            "uid": self.uid,
            "title": self.title,
            "description": self.description,
            "tags": ["forecourt"],
            "schemaVersion": SCHEMA_VERSION,
            "editable": false,
            "refresh": "10s",
            "time": { "from": "now-1h", "to": "now" },
            "timezone": "browser",
            "annotations": { "list": [] },
            "links": [{
                "title": "Forecourt", "type": "dashboards", "tags": ["forecourt"], "asDropdown": false, "icon": "", "url": "",
                "includeVars": true, "keepTime": true, "targetBlank": false, "tooltip": "",
            }],
            "templating": { "list": [{ "name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus" }] },
            "panels": self.placed(),
        })
    }

    /// From left to right; a row begins below what came before.
    fn placed(&self) -> Vec<Value> {
        let (mut panels, mut top) = (Vec::new(), 0);
        for row in &self.rows {
            let id = panels.len() + 1;
            let place = json!({ "x": 0, "y": top, "w": COLUMNS, "h": 1 });
            panels.push(json!({
                "id": id, "type": "row", "title": row.title, "collapsed": false, "panels": [], "gridPos": place,
            }));
            let (mut left, mut tallest) = (0, 0);
            top += 1;
            for panel in &row.panels {
                let (width, height) = panel.kind.size();
                if left + width > COLUMNS {
                    (left, top, tallest) = (0, top + tallest, 0);
                }
                let place = json!({ "x": left, "y": top, "w": width, "h": height });
                panels.push(panel.document(panels.len() + 1, &place));
                (left, tallest) = (left + width, tallest.max(height));
            }
            top += tallest;
        }
        panels
    }
}

impl Panel {
    fn document(&self, id: usize, place: &Value) -> Value {
        let mut panel = json!({
            "id": id,
            "type": self.kind.name(),
            "title": self.title,
            "description": self.says,
            "gridPos": place,
            "datasource": datasource(),
            "targets": self.targets(),
            "options": self.kind.options(),
            "fieldConfig": { "defaults": self.defaults(), "overrides": [] },
        });
        if self.kind == Kind::Ranking {
            panel["fieldConfig"]["overrides"] = json!([
                { "matcher": { "id": "byName", "options": "station" }, "properties": [{ "id": "unit", "value": "none" }] },
            ]);
            panel["transformations"] = json!([
                { "id": "joinByField", "options": { "byField": "rank", "mode": "inner" } },
                { "id": "organize", "options": {
                    "excludeByName": { "Time": true, "Time 1": true, "Time 2": true },
                    "indexByName": {},
                    "renameByName": { "Value #A": "station", "Value #B": self.queries.get(1).map(|(_, legend)| legend) },
                } },
            ]);
        }
        panel
    }

    fn targets(&self) -> Vec<Value> {
        let is_table = self.kind == Kind::Ranking;
        let target = |((expr, legend), reference): (&(String, String), char)| {
            json!({
                "refId": reference.to_string(), "datasource": datasource(), "expr": expr, "legendFormat": legend,
                "instant": is_table, "range": !is_table, "format": if is_table { "table" } else { "time_series" },
            })
        };
        self.queries.iter().zip('A'..='Z').map(target).collect()
    }

    fn defaults(&self) -> Value {
        let mut defaults = json!({
            "unit": self.unit,
            "min": 0,
            "color": { "mode": if self.kind == Kind::Graph { "palette-classic" } else { "thresholds" } },
            "thresholds": { "mode": "absolute", "steps": self.steps() },
        });
        if self.kind == Kind::Graph {
            let drawn = if self.steps().len() > 1 { "line" } else { "off" };
            defaults["custom"] = json!({
                "drawStyle": "line", "lineWidth": 1, "fillOpacity": 10, "showPoints": "never", "spanNulls": false,
                "thresholdsStyle": { "mode": drawn },
            });
        }
        defaults
    }

    /// Ascending: from the worst when little is bad, from the best when much is.
    fn steps(&self) -> Vec<Value> {
        let step = |color: &str, value: Option<f64>| json!({ "color": color, "value": value });
        let below = [("red", self.red_below), ("orange", self.orange_below)];
        let from = [("orange", self.orange_from), ("red", self.red_from)];
        let mut base = "green";
        let mut steps = Vec::new();
        // What is below a value has its colour; the step at the value begins the next one.
        let mut lows = below.into_iter().filter_map(|(color, value)| value.map(|value| (color, value))).peekable();
        if let Some((color, _)) = lows.peek() {
            base = color;
        }
        while let Some((_, value)) = lows.next() {
            steps.push(step(lows.peek().map_or("green", |(color, _)| color), Some(value)));
        }
        steps.extend(from.into_iter().filter_map(|(color, value)| value.map(|value| step(color, Some(value)))));
        steps.insert(0, step(base, None));
        steps
    }
}

fn datasource() -> Value {
    json!({ "type": "prometheus", "uid": DATASOURCE })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
        uid = "u"
        title = "T"
        description = "D"
        [[rows]]
        title = "R"
        [[rows.panels]]
        title = "P"
        kind = "stat"
        unit = "s"
        says = "S"
        queries = [["up", "{{job}}"]]
        red_below = 1
        orange_below = 2
        [[rows.panels]]
        title = "Q"
        kind = "graph"
        unit = "s"
        says = "S"
        queries = [["up", ""]]
        orange_from = 3
        red_from = 4
    "#;

    #[test]
    fn panels_stand_beside_each_other_below_their_row() {
        let document = Board::read(TEXT).unwrap().document();
        let places: Vec<(u64, u64)> = document["panels"]
            .as_array()
            .unwrap()
            .iter()
            .map(|panel| {
                let at = |field| panel["gridPos"][field].as_u64().unwrap();
                (at("x"), at("y"))
            })
            .collect();
        assert_eq!(places, [(0, 0), (0, 1), (4, 1)]);
    }

    #[test]
    fn thresholds_ascend_whichever_way_is_bad() {
        let board = Board::read(TEXT).unwrap();
        let colors = |panel: &Panel| -> Vec<String> {
            panel.steps().iter().map(|step| format!("{}{}", step["color"].as_str().unwrap(), step["value"])).collect()
        };
        let steps: Vec<_> = board.panels().map(colors).collect();
        assert_eq!(steps[0], ["rednull", "orange1.0", "green2.0"]);
        assert_eq!(steps[1], ["greennull", "orange3.0", "red4.0"]);
    }

    #[test]
    fn a_panel_without_a_unit_is_refused() {
        let refused = Board::read(&TEXT.replacen("unit = \"s\"", "", 1)).unwrap_err();
        assert!(refused.to_string().contains("unit"), "{refused}");
    }
}
