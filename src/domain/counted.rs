//! Counts in texts: one error, two errors.

use std::fmt::Display;

/// `1 error`, `2 errors`; of a `noun` that takes an s.
pub fn counted<N: Display + PartialEq + From<u8>>(count: N, noun: &str) -> String {
    let s = if count == N::from(1) { "" } else { "s" };
    format!("{count} {noun}{s}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_them_has_no_s() {
        assert_eq!(
            [counted(0_u64, "error"), counted(1_u64, "error"), counted(2_u64, "error")],
            ["0 errors", "1 error", "2 errors"]
        );
    }
}
