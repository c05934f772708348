//! Which series a PromQL expression asks for. No parser of the language: its words are told apart, which is enough for
//! the expressions of this tree, and `promtool` has looked at the rest.

/// Words that a metric's name may be taken for. Those that bring a list of labels in brackets come first.
const LISTS: [&str; 5] = ["by", "without", "on", "ignoring", "group_left"];
const WORDS: [&str; 10] = ["and", "or", "unless", "bool", "offset", "sum", "min", "max", "avg", "count"];

/// Every `name{labels}` of the expression, as it stands there.
pub fn selectors(expression: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = expression;
    while let Some(start) = rest.find(begins_name) {
        let (before, word) = rest.split_at(start);
        // A number's exponent, or a duration's unit.
        let is_tail = before.ends_with(|last: char| last.is_ascii_digit());
        let length = word.find(|next| !continues_name(next)).unwrap_or(word.len());
        let (name, after) = word.split_at(length);
        rest = after;
        if LISTS.contains(&name) {
            rest = rest.split_once(')').map_or("", |(_, rest)| rest);
            continue;
        }
        let is_function = rest.trim_start().starts_with('(');
        if is_tail || is_function || WORDS.contains(&name) {
            continue;
        }
        let labels = rest.starts_with('{').then(|| rest.find('}')).flatten().map_or("", |end| &rest[..=end]);
        rest = &rest[labels.len()..];
        let selector = format!("{name}{labels}");
        if !found.contains(&selector) {
            found.push(selector);
        }
        rest = rest.strip_prefix('[').and_then(|range| range.split_once(']')).map_or(rest, |(_, rest)| rest);
    }
    found
}

fn begins_name(letter: char) -> bool {
    letter.is_ascii_alphabetic() || letter == '_'
}

fn continues_name(letter: char) -> bool {
    begins_name(letter) || letter.is_ascii_digit() || letter == ':'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_with_their_labels_and_nothing_else_is() {
        let expression = "1 - sum by (le, slo) (rate(a_total{x=~\"b|c\"}[5m])) / on (slo) group_left () 14.4 * d:e:f \
                          and time() - (max(g) > 0) > 1e3 or vector(0) unless up{job=\"i\"} offset 5m";
        assert_eq!(selectors(expression), ["a_total{x=~\"b|c\"}", "d:e:f", "g", "up{job=\"i\"}"]);
    }

    #[test]
    fn a_range_of_a_subquery_is_no_name() {
        assert_eq!(selectors("max_over_time(sum(a)[1h:1m]) + rate(a[$__rate_interval])"), ["a"]);
    }
}
