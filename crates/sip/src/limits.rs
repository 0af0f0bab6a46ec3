//! Every limit of the syntax, each with its reason. What is longer is refused, never cut.

/// Bytes of one message: what fits in a UDP datagram. Streams keep to it too, so that a message that came by TCP
/// can leave by UDP, and offsets into it fit in 16 bits.
pub const MESSAGE_BYTES_MAX: usize = 65_535;

/// Header lines of one message. A call through 70 proxies, each with its Via and Record-Route on a line of their own,
/// needs 140; the rest is room for extensions.
pub const HEADERS_MAX: usize = 512;

/// Bytes of a method. It is kept in transaction keys; the longest in use has 9 bytes, the longest of RFC 4475 has 43.
pub const METHOD_BYTES_MAX: usize = 64;

/// Bytes of a Call-ID. It is kept for each call and each binding.
pub const CALL_ID_BYTES_MAX: usize = 512;

/// Bytes of a From or To tag. It is kept for each dialog.
pub const TAG_BYTES_MAX: usize = 512;

/// Bytes of the branch of the top Via. It is kept for each transaction; longer ones would come back in our responses.
pub const BRANCH_BYTES_MAX: usize = 512;

/// Parameters or headers of a URI that are compared one with another. Comparison is quadratic in them, so URIs with
/// more are equivalent only when they are the same bytes.
pub const URI_PARTS_COMPARED_MAX: usize = 32;

/// Bytes of the first line of a stream that may come before its line end: longer than any request line that works,
/// and short enough that a peer that does not speak SIP is found out soon.
pub const START_LINE_BYTES_MAX: usize = 16_384;

// Invariant: spans keep offsets in 16 bits.
const _: () = assert!(MESSAGE_BYTES_MAX <= u16::MAX as usize);
