//! Just enough of SIP to see what came: this end wrote most of it itself.

use memchr::memmem;

/// A message's lines up to the empty one, without their ends.
pub fn lines(message: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = message;
    std::iter::from_fn(move || {
        let end = memmem::find(rest, b"\r\n")?;
        let line = &rest[..end];
        rest = &rest[end + 2..];
        (!line.is_empty()).then_some(line)
    })
}

/// The status code of a response; `None` for a request.
pub fn status(message: &[u8]) -> Option<u16> {
    let code = message.strip_prefix(b"SIP/2.0 ")?.get(..3)?;
    str::from_utf8(code).ok()?.parse().ok()
}

/// What stands behind `mark` up to a byte that ends it.
pub fn after<'m>(message: &'m [u8], mark: &[u8], end: &[u8]) -> Option<&'m [u8]> {
    let start = memmem::find(message, mark)? + mark.len();
    let rest = &message[start..];
    let length = rest.iter().position(|byte| end.contains(byte))?;
    Some(&rest[..length])
}

/// The slot and the round that a mark of ours names: 4 and 8 hexadecimal digits.
pub fn place(message: &[u8], mark: &[u8]) -> Option<(usize, u32)> {
    let start = memmem::find(message, mark)? + mark.len();
    let digits = str::from_utf8(message.get(start..start + 12)?).ok()?;
    let slot = usize::from_str_radix(&digits[..4], 16).ok()?;
    Some((slot, u32::from_str_radix(&digits[4..], 16).ok()?))
}

/// Appends a number in hexadecimal with so many digits.
pub fn hex(number: u64, digits: u32, out: &mut Vec<u8>) {
    for digit in (0..digits).rev() {
        out.push(b"0123456789abcdef"[(number >> (4 * digit) & 15) as usize]);
    }
}

/// Appends a number.
pub fn decimal(number: u64, out: &mut Vec<u8>) {
    if number > 9 {
        decimal(number / 10, out);
    }
    out.push(b'0' + (number % 10) as u8);
}

/// Begins the value of a failed exchange: what came, for a person.
pub fn shown(message: &[u8]) -> String {
    String::from_utf8_lossy(&message[..message.len().min(1_500)]).into_owned()
}
