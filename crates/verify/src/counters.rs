//! How many tokens were checked, and how it went.

use crate::error::VerifyError;
use crate::verifier::Checked;
use metrics::Counter;

/// Counters with their handles kept: the hot path then pays one addition each.
pub(crate) struct Counters {
    good: Counter,
    stale: Counter,
    refused: Counter,
    unavailable: Counter,
    hits: Counter,
}

impl Counters {
    pub(crate) fn new(issuer: &str) -> Self {
        let of = |outcome: &'static str| {
            metrics::counter!(
                "reseal_verify_checks_total", "issuer" => issuer.to_owned(), "outcome" => outcome
            )
        };
        Self {
            good: of("good"),
            stale: of("stale"),
            refused: of("refused"),
            unavailable: of("unavailable"),
            hits: metrics::counter!("reseal_verify_cache_hits_total", "issuer" => issuer.to_owned()),
        }
    }

    pub(crate) fn checked(&self, outcome: &Result<Checked, VerifyError>) {
        let counter = match outcome {
            Ok(Checked { stale: false, .. }) => &self.good,
            Ok(Checked { stale: true, .. }) => &self.stale,
            Err(VerifyError::Unavailable(_)) => &self.unavailable,
            Err(_) => &self.refused,
        };
        counter.increment(1);
    }

    pub(crate) fn hit(&self) {
        self.hits.increment(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Unavailable;
    use metrics_exporter_prometheus::PrometheusBuilder;

    #[test]
    fn every_outcome_is_counted_as_what_it_is() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let counters = metrics::with_local_recorder(&recorder, || Counters::new("https://i"));
        counters.checked(&Err(VerifyError::Expired));
        counters.checked(&Err(VerifyError::Expired));
        counters.checked(&Err(VerifyError::Unavailable(Unavailable::Feed)));
        counters.hit();
        let text = recorder.handle().render();
        let refused = "reseal_verify_checks_total{issuer=\"https://i\",outcome=\"refused\"} 2";
        let unavailable = "reseal_verify_checks_total{issuer=\"https://i\",outcome=\"unavailable\"} 1";
        for line in [refused, unavailable, "reseal_verify_cache_hits_total{issuer=\"https://i\"} 1"] {
            assert!(text.contains(line), "{line} is not in {text}");
        }
    }
}
