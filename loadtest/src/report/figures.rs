//! What the charts and tables of a report are made of.

/// A named line of points, x ascending.
pub type Line = (String, Vec<(f64, f64)>);

/// Something over the seconds of a run: `(seconds since its start, value)`.
#[derive(Debug, Clone, Default)]
pub struct Series {
    pub title: String,
    pub unit: String,
    pub lines: Vec<Line>,
}

/// Something over its cause: cost over stations, rate over connections.
#[derive(Debug, Clone, Default)]
pub struct Curve {
    pub title: String,
    pub x_label: String,
    pub y_label: String,
    pub log_x: bool,
    pub log_y: bool,
    pub lines: Vec<Line>,
}

/// What is read rather than plotted: the truth table, the drops of each stage. The first column names the row.
#[derive(Debug, Clone, Default)]
pub struct Table {
    pub title: String,
    pub columns: Vec<String>,
    pub rows: Vec<Vec<String>>,
}
