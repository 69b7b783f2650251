//! Asking a person for what must not show: read from the terminal byte by byte, without an echo.

use super::output;
use crate::error::{Error, Result};
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use secrecy::SecretString;
use std::io::{IsTerminal, Read, Stdin};
use zeroize::Zeroizing;

const INTERRUPT: u8 = 0x03;
const END: u8 = 0x04;
const ERASE: [u8; 2] = [0x08, 0x7f];
const ERASE_LINE: u8 = 0x15;

/// Whether there is a person to ask: whoever reads the question also types the answer.
pub(super) fn is_there() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Asks for the passphrase of the home; `None` where there is no terminal.
pub(super) fn passphrase() -> Result<Option<SecretString>> {
    if !is_there() {
        return Ok(None);
    }
    hidden("passphrase of this home's secrets: ").map(Some)
}

/// What the person types after `prompt`, up to Enter. `cancelled` for Ctrl-C.
pub(super) fn hidden(prompt: &str) -> Result<SecretString> {
    let stdin = std::io::stdin();
    // Before the question: whoever answers at once must neither be shown nor be cut off.
    let silent = Silent::start(&stdin)?;
    output::prompt(prompt);
    let typed = read_line(stdin.lock());
    drop(silent);
    output::prompt("\n");
    let typed = typed?;
    let text = std::str::from_utf8(&typed).map_err(|_| Error::invalid_input("what was typed is not UTF-8"))?;
    Ok(SecretString::from(text))
}

/// A terminal that shows nothing of what is typed, until dropped.
struct Silent<'a> {
    stdin: &'a Stdin,
    before: Termios,
}

impl<'a> Silent<'a> {
    /// Signals are off too: Ctrl-C would end the process and leave the terminal silent.
    fn start(stdin: &'a Stdin) -> Result<Self> {
        let failed = |cause| Error::unavailable("the terminal can't be made silent").source(cause);
        let before = tcgetattr(stdin).map_err(failed)?;
        let mut silent = before.clone();
        silent.local_flags.remove(LocalFlags::ECHO | LocalFlags::ICANON | LocalFlags::ISIG);
        tcsetattr(stdin, SetArg::TCSAFLUSH, &silent).map_err(failed)?;
        Ok(Self { stdin, before })
    }
}

impl Drop for Silent<'_> {
    fn drop(&mut self) {
        let _as_far_as_possible = tcsetattr(self.stdin, SetArg::TCSANOW, &self.before);
    }
}

fn read_line(mut input: impl Read) -> Result<Zeroizing<Vec<u8>>> {
    let mut line = Zeroizing::new(Vec::with_capacity(1024));
    let mut byte = [0];
    loop {
        let read = input.read(&mut byte).map_err(|cause| Error::invalid_input(format!("can't read: {cause}")))?;
        match byte[0] {
            _ if read == 0 => return Ok(line),
            b'\n' | b'\r' | END => return Ok(line),
            INTERRUPT => return Err(Error::cancelled("nothing was entered")),
            ERASE_LINE => line.clear(),
            erase if ERASE.contains(&erase) => erase_character(&mut line),
            other => line.push(other),
        }
    }
}

/// The last character, which may have several bytes.
fn erase_character(line: &mut Vec<u8>) {
    while line.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_edit_a_line_edit_it_and_ctrl_c_leaves() {
        let read = |bytes: &[u8]| read_line(bytes).map(|line| String::from_utf8(line.to_vec()).unwrap());
        assert_eq!(read(b"abc\rrest").unwrap(), "abc");
        assert_eq!(read("aü\x7fb\n".as_bytes()).unwrap(), "ab");
        assert_eq!(read(b"\x7fwrong\x15right\n").unwrap(), "right");
        assert_eq!(read(b"end").unwrap(), "end");
        assert_eq!(read(b"ab\x03").unwrap_err().kind(), crate::error::ErrorKind::Cancelled);
    }
}
