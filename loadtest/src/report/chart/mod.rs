//! Line charts as inline SVG.
//!
//! Elements carry classes and no colours: the page's style sheet gives them theirs, light, dark or printed. Legends and
//! titles belong to the page, where text flows; inside the chart are only axes, ticks and lines.

mod axis;

use maud::{Markup, html};

pub use axis::{Axis, Scale};

use super::{figures::Line, numbers::grouped};

const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 48.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 44.0;
const PLOT_WIDTH: f64 = WIDTH - LEFT - RIGHT;
const PLOT_HEIGHT: f64 = HEIGHT - TOP - BOTTOM;
/// A longer line is thinned to this many columns, of which each keeps its lowest and its highest point.
const COLUMNS: usize = 400;
/// Up to here every point is worth a dot of its own.
const DOTS_MAX: usize = 24;
/// Colours of the style sheet; the lines after them are dashed.
pub const COLOURS: usize = 6;

#[derive(Debug)]
pub struct Chart<'a> {
    lines: &'a [Line],
    x: Axis,
    y: Axis,
    x_label: String,
    /// What a reader hears who cannot see it.
    spoken: String,
}

impl<'a> Chart<'a> {
    pub fn new(lines: &'a [Line], [x, y]: [Scale; 2], x_label: &str, spoken: &str) -> Chart<'a> {
        let points = || lines.iter().flat_map(|(_, points)| points);
        Chart {
            x: Axis::over(x, points().map(|point| point.0)),
            y: Axis::over(y, points().map(|point| point.1)),
            lines,
            x_label: x_label.into(),
            spoken: spoken.into(),
        }
    }

    pub fn svg(&self) -> Markup {
        html! {
            svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" aria-label=(self.spoken) {
                (self.horizontal_grid())
                (self.vertical_grid())
                text.axis-label x=(px(LEFT + PLOT_WIDTH / 2.0)) y=(px(HEIGHT - 6.0)) text-anchor="middle" { (self.x_label) }
                @for (place, (name, points)) in self.lines.iter().enumerate() { (self.line(place, name, points)) }
            }
        }
    }

    fn horizontal_grid(&self) -> Markup {
        html! {
            @for tick in self.y.ticks() {
                @let y = px(TOP + PLOT_HEIGHT * (1.0 - self.y.place(tick.at)));
                line.grid x1=(px(LEFT)) x2=(px(WIDTH - RIGHT)) y1=(y) y2=(y) {}
                text.tick x=(px(LEFT - 8.0)) y=(y) dy="0.32em" text-anchor="end" { (tick.label) }
            }
        }
    }

    fn vertical_grid(&self) -> Markup {
        let floor = TOP + PLOT_HEIGHT;
        html! {
            @for tick in self.x.ticks() {
                @let x = px(LEFT + PLOT_WIDTH * self.x.place(tick.at));
                line.mark x1=(x) x2=(x) y1=(px(floor)) y2=(px(floor + 4.0)) {}
                text.tick x=(x) y=(px(floor + 17.0)) text-anchor="middle" { (tick.label) }
            }
            line.base x1=(px(LEFT)) x2=(px(WIDTH - RIGHT)) y1=(px(floor)) y2=(px(floor)) {}
        }
    }

    fn line(&self, place: usize, name: &str, points: &[(f64, f64)]) -> Markup {
        let drawn: Vec<(f64, f64)> = points.iter().copied().filter(|point| self.shows(*point)).collect();
        let path: Vec<String> = thinned(&drawn)
            .into_iter()
            .map(|point| self.spot(point))
            .map(|(x, y)| format!("{},{}", px(x), px(y)))
            .collect();
        html! {
            g class=(class(place)) {
                polyline points=(path.join(" ")) {}
                @if drawn.len() <= DOTS_MAX {
                    @for point in &drawn {
                        @let (x, y) = self.spot(*point);
                        circle cx=(px(x)) cy=(px(y)) r="2.5" {
                            title { (name) ": " (grouped(point.0)) ", " (grouped(point.1)) }
                        }
                    }
                }
            }
        }
    }

    fn shows(&self, (x, y): (f64, f64)) -> bool {
        self.x.shows(x) && self.y.shows(y)
    }

    fn spot(&self, (x, y): (f64, f64)) -> (f64, f64) {
        (LEFT + PLOT_WIDTH * self.x.place(x), TOP + PLOT_HEIGHT * (1.0 - self.y.place(y)))
    }
}

/// The style of the line at a place of the legend.
pub fn class(place: usize) -> String {
    let dashed = if place / COLOURS % 2 == 1 { " dashed" } else { "" };
    format!("line c{}{dashed}", place % COLOURS)
}

/// Half a pixel of a printed page is a tenth of these units.
fn px(value: f64) -> String {
    format!("{value:.1}")
}

/// Peaks survive: an average would hide the second in which everything stood still.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    if points.len() <= 2 * COLUMNS {
        return points.to_vec();
    }
    points.chunks(points.len().div_ceil(COLUMNS)).flat_map(extremes).collect()
}

fn extremes(column: &[(f64, f64)]) -> impl Iterator<Item = (f64, f64)> {
    let by_height = |a: &&(f64, f64), b: &&(f64, f64)| a.1.total_cmp(&b.1);
    let mut ends: Vec<(f64, f64)> =
        [column.iter().min_by(by_height), column.iter().max_by(by_height)].into_iter().flatten().copied().collect();
    ends.sort_by(|a, b| a.0.total_cmp(&b.0));
    ends.dedup();
    ends.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_line_keeps_its_peaks() {
        let points: Vec<(f64, f64)> =
            (0..10_000).map(|x| (f64::from(x), if x == 7777 { 900.0 } else { 1.0 })).collect();
        let drawn = thinned(&points);
        assert!(drawn.len() <= 2 * COLUMNS);
        assert!(drawn.contains(&(7777.0, 900.0)));
        assert!(drawn.is_sorted_by(|a, b| a.0 <= b.0));
    }

    #[test]
    fn every_point_lies_within_the_plot() {
        let lines = vec![("a".into(), vec![(0.0, 3.0), (5.0, 97.0), (60.0, 12.0)])];
        let chart = Chart::new(&lines, [Scale::Linear, Scale::Linear], "s", "");
        for point in &lines[0].1 {
            let (x, y) = chart.spot(*point);
            assert!((LEFT..=WIDTH - RIGHT).contains(&x) && (TOP..=HEIGHT - BOTTOM).contains(&y), "{x} {y}");
        }
    }

    #[test]
    fn a_name_is_escaped() {
        let lines = vec![("<script>".into(), vec![(1.0, 1.0)])];
        let svg = Chart::new(&lines, [Scale::Linear, Scale::Linear], "s", "").svg().into_string();
        assert!(!svg.contains("<script>"), "{svg}");
    }

    #[test]
    fn what_a_log_axis_cannot_show_is_left_out() {
        let lines = vec![("a".into(), vec![(0.0, 1.0), (10.0, 1.0), (100.0, f64::NAN)])];
        let svg = Chart::new(&lines, [Scale::Log, Scale::Log], "n", "").svg().into_string();
        assert_eq!(svg.matches("<circle").count(), 1);
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }
}
