//! What a box is opened with: the same secret in the containers of the gate and of the browser, made anew for each run.
//!
//! It is written down nowhere else.

use crate::system::fill_random;
use std::io;

/// 32 random bytes as hexadecimal digits.
///
/// # Errors
/// The system has no randomness.
pub fn random_hex() -> io::Result<String> {
    let mut bytes = [0; 32];
    fill_random(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
