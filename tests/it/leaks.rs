//! Looks for planted secrets in everything that the engine leaves behind.

use std::{fs, path::Path};

/// Secrets by name, in every form in which one may slip out.
pub(crate) struct Planted(Vec<(String, Vec<u8>)>);

impl Planted {
    pub(crate) fn new() -> Planted {
        Planted(Vec::new())
    }

    /// As it is, as hexadecimal digits in both cases, and as base64 at each of the three places in a group, in both of its
    /// alphabets: wherever it begins in what was encoded, what stands between its ends is one of these.
    pub(crate) fn plant(&mut self, name: &str, secret: &[u8]) {
        assert!(secret.len() >= 16, "{name} is so short that it may be found by chance");
        let digits = hex::encode(secret);
        let mut forms = vec![secret.to_vec(), digits.clone().into_bytes(), digits.to_uppercase().into_bytes()];
        for before in 0..3 {
            let text = base64(&[&vec![0; before], secret].concat());
            // A character at either end depends on the neighbours as well.
            let inner = text[(before * 8).div_ceil(6)..text.len() - 2].to_vec();
            let url = inner.iter().map(|byte| match byte {
                b'+' => b'-',
                b'/' => b'_',
                other => *other,
            });
            forms.push(url.collect());
            forms.push(inner);
        }
        self.0.extend(forms.into_iter().map(|form| (name.to_owned(), form)));
    }

    /// Text that is nobody's by chance, though it may be short: as it is, and as JSON writes it that knows ASCII only.
    pub(crate) fn plant_text(&mut self, name: &str, text: &str) {
        assert!(text.len() >= 6, "{name} is so short that it may be found by chance");
        let escaped = text.chars().map(|c| if c.is_ascii() { c.to_string() } else { format!("\\u{:04x}", c as u32) });
        let forms = [text.to_owned(), escaped.collect(), text.to_lowercase()];
        self.0.extend(forms.into_iter().map(|form| (name.to_owned(), form.into_bytes())));
    }

    /// The first that is in there.
    pub(crate) fn found_in(&self, bytes: &[u8]) -> Option<&str> {
        self.0.iter().find(|(_, form)| contains(bytes, form)).map(|(name, _)| name.as_str())
    }

    /// Fails, and says where which one was found.
    #[track_caller]
    pub(crate) fn assert_not_in(&self, place: &str, bytes: &[u8]) {
        if let Some(name) = self.found_in(bytes) {
            panic!("{name} is in {place}");
        }
    }

    /// Every file below the folder, but those that hold a secret by their nature: the names of `but`. How many were read.
    #[track_caller]
    pub(crate) fn assert_not_in_folder(&self, folder: &Path, but: &[&str]) -> usize {
        let mut read = 0;
        for entry in fs::read_dir(folder).expect("the folder is readable") {
            let entry = entry.expect("an entry is readable");
            let (path, name) = (entry.path(), entry.file_name());
            if path.is_dir() {
                read += self.assert_not_in_folder(&path, but);
            } else if !but.contains(&name.to_string_lossy().as_ref()) {
                self.assert_not_in(&path.display().to_string(), &fs::read(&path).expect("a file is readable"));
                read += 1;
            }
        }
        read
    }
}

fn contains(bytes: &[u8], form: &[u8]) -> bool {
    let (first, rest) = form.split_first().expect("no form is empty");
    let starts = bytes.iter().enumerate().filter(|(_, byte)| *byte == first).map(|(at, _)| at + 1);
    starts.into_iter().any(|at| bytes[at..].starts_with(rest))
}

fn base64(bytes: &[u8]) -> Vec<u8> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |chunk: &[u8]| {
        let bits = chunk.iter().fold(0_u32, |bits, &byte| bits << 8 | u32::from(byte)) << (8 * (3 - chunk.len()));
        [18, 12, 6, 0].map(|shift| ALPHABET[(bits >> shift & 63) as usize]).into_iter().take(chunk.len() + 1)
    };
    bytes.chunks(3).flat_map(group).collect()
}

#[test]
fn a_leak_is_found_in_each_of_its_forms() {
    let secret: Vec<u8> = (100..132).collect();
    let mut planted = Planted::new();
    planted.plant("it", &secret);
    let leaks = [
        [b"..", &secret[..], b".."].concat(),
        hex::encode(&secret).into_bytes(),
        hex::encode_upper(&secret).into_bytes(),
        base64(&secret),
        base64(&[b"key=", &secret[..], b";"].concat()),
        base64(&[b"key: ", &secret[..], b";"].concat()),
    ];
    for leak in leaks {
        let found = std::panic::catch_unwind(|| planted.assert_not_in("a leak", &leak));
        assert!(found.is_err(), "{leak:?}");
    }
    planted.assert_not_in("nothing", &secret[1..]);
    assert_eq!(base64(b"any carnal pleas"), b"YW55IGNhcm5hbCBwbGVhcw", "as RFC 4648 has it, without its padding");
}
