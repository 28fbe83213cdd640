//! Small parts of the checks.

/// A number that depends on all bytes: which bit a check turns is part of its input.
pub fn number(bytes: &[u8]) -> usize {
    // FNV-1a.
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    (hash >> 8) as usize
}

/// The bytes with one bit turned, which `which` chooses; `None` where there is none.
pub fn turned(bytes: &[u8], which: usize) -> Option<Vec<u8>> {
    let bit = which.checked_rem(bytes.len() * 8)?;
    let mut turned = bytes.to_vec();
    turned[bit / 8] ^= 1 << (bit % 8);
    Some(turned)
}

/// Checks that what is told of bad input is short and fits one line of a terminal.
pub fn told(text: &str, most: usize) {
    assert!(!text.is_empty(), "nothing is told");
    assert!(text.len() <= most, "{} bytes are told: {text:.300}", text.len());
    assert!(!text.contains(['\n', '\r', '\0', '\u{1b}']), "{text:?}");
}
