//! For how long certificates hold.

use std::{
    cmp::{max, min},
    path::Path,
};

use rustls::pki_types::{CertificateDer, pem::PemObject};
use x509_parser::certificate::X509Certificate;

use super::PkiError;
use crate::engine::time::{DAY_MS, UnixMs};

const SECOND_MS: i64 = 1_000;

/// From when until when all certificates of a file hold: one that has run out breaks the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    pub since: UnixMs,
    pub until: UnixMs,
}

impl Validity {
    pub fn read(path: &Path) -> Result<Validity, PkiError> {
        let certificates = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let certificates = certificates.map_err(|source| PkiError::Pem { path: path.into(), source })?;
        Validity::of(&certificates).ok_or_else(|| PkiError::NoCertificate { path: path.into() })
    }

    /// `None` when there is none, or when one of them is no certificate.
    pub fn of(chain: &[CertificateDer<'_>]) -> Option<Validity> {
        let each = chain.iter().map(of_one).collect::<Option<Vec<_>>>()?;
        each.into_iter()
            .reduce(|one, other| Validity { since: max(one.since, other.since), until: min(one.until, other.until) })
    }

    pub fn holds(&self, now: UnixMs) -> bool {
        (self.since..=self.until).contains(&now)
    }

    /// Whole days that are left; 0 on the last one and afterwards.
    pub fn days_left(&self, now: UnixMs) -> u64 {
        self.until.since(now) / DAY_MS
    }
}

fn of_one(certificate: &CertificateDer<'_>) -> Option<Validity> {
    use x509_parser::prelude::FromDer as _;
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let validity = certificate.validity();
    let ms = |time: x509_parser::time::ASN1Time| UnixMs((time.timestamp() * SECOND_MS).max(0).cast_unsigned());
    Some(Validity { since: ms(validity.not_before), until: ms(validity.not_after) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ingest::pki, telemetry};

    #[test]
    fn a_made_certificate_holds_for_its_days_and_no_longer() {
        let data = tempfile::tempdir().unwrap();
        let validity = Validity::read(&pki::ensure(data.path(), &[]).unwrap().certificate).unwrap();
        let now = telemetry::now();
        assert_eq!((validity.holds(now), validity.days_left(now)), (true, u64::from(pki::CERTIFICATE_DAYS) - 1));
        let after = validity.until.plus(1);
        assert_eq!((validity.holds(after), validity.days_left(after)), (false, 0));
        assert!(!validity.holds(validity.since.minus(1)));
    }

    #[test]
    fn of_several_certificates_the_first_to_run_out_counts() {
        let data = tempfile::tempdir().unwrap();
        let server = pki::ensure(data.path(), &[]).unwrap().certificate;
        let both =
            [&server, &pki::folder(data.path()).join("ca.pem")].map(|file| std::fs::read(file).unwrap()).concat();
        let bundle = data.path().join("bundle.pem");
        std::fs::write(&bundle, both).unwrap();
        assert_eq!(Validity::read(&bundle).unwrap().until, Validity::read(&server).unwrap().until);
    }

    #[test]
    fn a_file_without_a_certificate_is_named() {
        let data = tempfile::tempdir().unwrap();
        let empty = data.path().join("empty.pem");
        std::fs::write(&empty, "").unwrap();
        assert!(Validity::read(&empty).unwrap_err().to_string().contains("empty.pem"));
    }
}
