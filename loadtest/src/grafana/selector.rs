//! Which series a PromQL expression asks for.

use promql_parser::{
    parser::{self, Expr, VectorSelector},
    util::{ExprVisitor, walk_expr},
};

/// What Grafana puts in for its own variable; any duration tells as much.
pub(super) const INTERVAL: (&str, &str) = ("$__rate_interval", "1m");

/// Every `name{labels}` of the expression, in its order and each once.
pub fn selectors(expression: &str) -> Result<Vec<String>, String> {
    let expression = parser::parse(&expression.replace(INTERVAL.0, INTERVAL.1))?;
    let mut found = Found::default();
    walk_expr(&mut found, &expression)?;
    Ok(found.0)
}

#[derive(Default)]
struct Found(Vec<String>);

impl ExprVisitor for Found {
    type Error = String;

    fn pre_visit(&mut self, expression: &Expr) -> Result<bool, String> {
        let selector = match expression {
            Expr::VectorSelector(selector) => selector,
            Expr::MatrixSelector(range) => &range.vs,
            _ => return Ok(true),
        };
        // At whatever time it is looked at, it is of the same series.
        let selector = VectorSelector { offset: None, at: None, ..selector.clone() }.to_string();
        if !self.0.contains(&selector) {
            self.0.push(selector);
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_with_their_labels_and_nothing_else_is() {
        let expression = "1 - sum by (le, slo) (rate(a_total{x=~\"b|c\"}[5m])) / on (slo) group_left () (14.4 * d:e:f) \
                          and time() - (max(g) > 0) > 1e3 or vector(0) unless up{job=\"i\"} offset 5m";
        assert_eq!(selectors(expression).unwrap(), ["a_total{x=~\"b|c\"}", "d:e:f", "g", "up{job=\"i\"}"]);
    }

    #[test]
    fn a_range_of_a_subquery_is_no_name() {
        assert_eq!(selectors("max_over_time(sum(a)[1h:1m]) + rate(a[$__rate_interval])").unwrap(), ["a"]);
    }

    #[test]
    fn what_is_no_promql_is_refused() {
        for wrong in ["sum(a", "rate(a)", "a{b}", "max(a[5m])"] {
            assert!(selectors(wrong).is_err(), "{wrong}");
        }
    }
}
