//! What an engine says of itself, in Prometheus' text format: as much of it as sums of counters need.

/// One answer of `/metrics`.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    samples: Vec<Sample>,
}

#[derive(Debug, Clone)]
struct Sample {
    name: String,
    /// As they stand in the text, without the braces.
    labels: String,
    value: f64,
}

impl Metrics {
    /// Reads the text; lines that are no samples are passed over.
    pub fn parse(text: &str) -> Metrics {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        Metrics { samples: lines.filter_map(sample).collect() }
    }

    /// The sum over all series of this name that carry all of these labels; 0 when there is none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let of_name = self.samples.iter().filter(|sample| sample.name == name);
        of_name.filter(|sample| sample.carries(labels)).map(|sample| sample.value).sum()
    }

    /// As [`Self::sum`], for counters of whole things.
    pub fn count(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        self.sum(name, labels) as u64
    }
}

impl Sample {
    fn carries(&self, labels: &[(&str, &str)]) -> bool {
        // Values of our labels are closed sets of plain words: no comma or quote is ever inside one.
        let has = |&(key, value): &(&str, &str)| {
            let label = format!("{key}=\"{value}\"");
            self.labels.split(',').any(|pair| pair == label)
        };
        labels.iter().all(has)
    }
}

fn sample(line: &str) -> Option<Sample> {
    let (series, value) = line.rsplit_once(' ')?;
    let (name, labels) = match series.split_once('{') {
        Some((name, labels)) => (name, labels.strip_suffix('}')?),
        None => (series, ""),
    };
    Some(Sample { name: name.into(), labels: labels.into(), value: value.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# HELP frames_total Frames.\n# TYPE frames_total counter\n\
        frames_total{code=\"resolved\"} 40\nframes_total{code=\"unknown\"} 2\nframes_total_more 7\nuplinks 3\n\n";

    #[test]
    fn series_of_a_name_are_summed_by_their_labels() {
        let metrics = Metrics::parse(TEXT);
        assert_eq!(metrics.count("frames_total", &[]), 42);
        assert_eq!(metrics.count("frames_total", &[("code", "unknown")]), 2);
        assert_eq!(metrics.count("uplinks", &[]), 3);
        assert_eq!(metrics.count("frames", &[]), 0);
    }
}
