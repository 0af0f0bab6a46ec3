//! Status codes (RFC 3261 §21 and the registry's later ones).

/// A status code, 100 to 699.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Status(pub u16);

impl Status {
    /// 100 Trying.
    pub const TRYING: Status = Status(100);
    /// 180 Ringing.
    pub const RINGING: Status = Status(180);
    /// 181 Call Is Being Forwarded.
    pub const CALL_IS_BEING_FORWARDED: Status = Status(181);
    /// 182 Queued.
    pub const QUEUED: Status = Status(182);
    /// 183 Session Progress.
    pub const SESSION_PROGRESS: Status = Status(183);
    /// 199 Early Dialog Terminated.
    pub const EARLY_DIALOG_TERMINATED: Status = Status(199);
    /// 200 OK.
    pub const OK: Status = Status(200);
    /// 202 Accepted.
    pub const ACCEPTED: Status = Status(202);
    /// 204 No Notification.
    pub const NO_NOTIFICATION: Status = Status(204);
    /// 300 Multiple Choices.
    pub const MULTIPLE_CHOICES: Status = Status(300);
    /// 301 Moved Permanently.
    pub const MOVED_PERMANENTLY: Status = Status(301);
    /// 302 Moved Temporarily.
    pub const MOVED_TEMPORARILY: Status = Status(302);
    /// 305 Use Proxy.
    pub const USE_PROXY: Status = Status(305);
    /// 380 Alternative Service.
    pub const ALTERNATIVE_SERVICE: Status = Status(380);
    /// 400 Bad Request.
    pub const BAD_REQUEST: Status = Status(400);
    /// 401 Unauthorized.
    pub const UNAUTHORIZED: Status = Status(401);
    /// 402 Payment Required.
    pub const PAYMENT_REQUIRED: Status = Status(402);
    /// 403 Forbidden.
    pub const FORBIDDEN: Status = Status(403);
    /// 404 Not Found.
    pub const NOT_FOUND: Status = Status(404);
    /// 405 Method Not Allowed.
    pub const METHOD_NOT_ALLOWED: Status = Status(405);
    /// 406 Not Acceptable.
    pub const NOT_ACCEPTABLE: Status = Status(406);
    /// 407 Proxy Authentication Required.
    pub const PROXY_AUTHENTICATION_REQUIRED: Status = Status(407);
    /// 408 Request Timeout.
    pub const REQUEST_TIMEOUT: Status = Status(408);
    /// 410 Gone.
    pub const GONE: Status = Status(410);
    /// 412 Conditional Request Failed.
    pub const CONDITIONAL_REQUEST_FAILED: Status = Status(412);
    /// 413 Request Entity Too Large.
    pub const REQUEST_ENTITY_TOO_LARGE: Status = Status(413);
    /// 414 Request-URI Too Long.
    pub const REQUEST_URI_TOO_LONG: Status = Status(414);
    /// 415 Unsupported Media Type.
    pub const UNSUPPORTED_MEDIA_TYPE: Status = Status(415);
    /// 416 Unsupported URI Scheme.
    pub const UNSUPPORTED_URI_SCHEME: Status = Status(416);
    /// 420 Bad Extension.
    pub const BAD_EXTENSION: Status = Status(420);
    /// 421 Extension Required.
    pub const EXTENSION_REQUIRED: Status = Status(421);
    /// 422 Session Interval Too Small.
    pub const SESSION_INTERVAL_TOO_SMALL: Status = Status(422);
    /// 423 Interval Too Brief.
    pub const INTERVAL_TOO_BRIEF: Status = Status(423);
    /// 428 Use Identity Header.
    pub const USE_IDENTITY_HEADER: Status = Status(428);
    /// 430 Flow Failed.
    pub const FLOW_FAILED: Status = Status(430);
    /// 433 Anonymity Disallowed.
    pub const ANONYMITY_DISALLOWED: Status = Status(433);
    /// 439 First Hop Lacks Outbound Support.
    pub const FIRST_HOP_LACKS_OUTBOUND_SUPPORT: Status = Status(439);
    /// 440 Max-Breadth Exceeded.
    pub const MAX_BREADTH_EXCEEDED: Status = Status(440);
    /// 469 Bad Info Package.
    pub const BAD_INFO_PACKAGE: Status = Status(469);
    /// 480 Temporarily Unavailable.
    pub const TEMPORARILY_UNAVAILABLE: Status = Status(480);
    /// 481 Call/Transaction Does Not Exist.
    pub const CALL_DOES_NOT_EXIST: Status = Status(481);
    /// 482 Loop Detected.
    pub const LOOP_DETECTED: Status = Status(482);
    /// 483 Too Many Hops.
    pub const TOO_MANY_HOPS: Status = Status(483);
    /// 484 Address Incomplete.
    pub const ADDRESS_INCOMPLETE: Status = Status(484);
    /// 485 Ambiguous.
    pub const AMBIGUOUS: Status = Status(485);
    /// 486 Busy Here.
    pub const BUSY_HERE: Status = Status(486);
    /// 487 Request Terminated.
    pub const REQUEST_TERMINATED: Status = Status(487);
    /// 488 Not Acceptable Here.
    pub const NOT_ACCEPTABLE_HERE: Status = Status(488);
    /// 489 Bad Event.
    pub const BAD_EVENT: Status = Status(489);
    /// 491 Request Pending.
    pub const REQUEST_PENDING: Status = Status(491);
    /// 493 Undecipherable.
    pub const UNDECIPHERABLE: Status = Status(493);
    /// 494 Security Agreement Required.
    pub const SECURITY_AGREEMENT_REQUIRED: Status = Status(494);
    /// 500 Server Internal Error.
    pub const SERVER_INTERNAL_ERROR: Status = Status(500);
    /// 501 Not Implemented.
    pub const NOT_IMPLEMENTED: Status = Status(501);
    /// 502 Bad Gateway.
    pub const BAD_GATEWAY: Status = Status(502);
    /// 503 Service Unavailable.
    pub const SERVICE_UNAVAILABLE: Status = Status(503);
    /// 504 Server Time-out.
    pub const SERVER_TIME_OUT: Status = Status(504);
    /// 505 Version Not Supported.
    pub const VERSION_NOT_SUPPORTED: Status = Status(505);
    /// 513 Message Too Large.
    pub const MESSAGE_TOO_LARGE: Status = Status(513);
    /// 580 Precondition Failure.
    pub const PRECONDITION_FAILURE: Status = Status(580);
    /// 600 Busy Everywhere.
    pub const BUSY_EVERYWHERE: Status = Status(600);
    /// 603 Decline.
    pub const DECLINE: Status = Status(603);
    /// 604 Does Not Exist Anywhere.
    pub const DOES_NOT_EXIST_ANYWHERE: Status = Status(604);
    /// 606 Not Acceptable.
    pub const NOT_ACCEPTABLE_ANYWHERE: Status = Status(606);
    /// 607 Unwanted.
    pub const UNWANTED: Status = Status(607);
    /// 608 Rejected.
    pub const REJECTED: Status = Status(608);

    /// The first digit: 1 to 6.
    pub fn class(self) -> u16 {
        self.0 / 100
    }

    /// 100 to 199.
    pub fn is_provisional(self) -> bool {
        self.class() == 1
    }

    /// 200 to 299.
    pub fn is_success(self) -> bool {
        self.class() == 2
    }

    /// 200 to 699.
    pub fn is_final(self) -> bool {
        self.0 >= 200
    }

    /// The usual reason phrase; that of the class's `x00` where the code is unknown.
    // RFC 3261 §8.1.3.2: an unknown code is treated as the x00 of its class, an unknown 1xx as 183.
    pub fn reason_phrase(self) -> &'static str {
        match self.0 {
            100 => "Trying",
            180 => "Ringing",
            181 => "Call Is Being Forwarded",
            182 => "Queued",
            183 => "Session Progress",
            199 => "Early Dialog Terminated",
            200 => "OK",
            202 => "Accepted",
            204 => "No Notification",
            300 => "Multiple Choices",
            301 => "Moved Permanently",
            302 => "Moved Temporarily",
            305 => "Use Proxy",
            380 => "Alternative Service",
            400 => "Bad Request",
            401 => "Unauthorized",
            402 => "Payment Required",
            403 => "Forbidden",
            404 => "Not Found",
            405 => "Method Not Allowed",
            406 => "Not Acceptable",
            407 => "Proxy Authentication Required",
            408 => "Request Timeout",
            410 => "Gone",
            412 => "Conditional Request Failed",
            413 => "Request Entity Too Large",
            414 => "Request-URI Too Long",
            415 => "Unsupported Media Type",
            416 => "Unsupported URI Scheme",
            420 => "Bad Extension",
            421 => "Extension Required",
            422 => "Session Interval Too Small",
            423 => "Interval Too Brief",
            428 => "Use Identity Header",
            430 => "Flow Failed",
            433 => "Anonymity Disallowed",
            439 => "First Hop Lacks Outbound Support",
            440 => "Max-Breadth Exceeded",
            469 => "Bad Info Package",
            480 => "Temporarily Unavailable",
            481 => "Call/Transaction Does Not Exist",
            482 => "Loop Detected",
            483 => "Too Many Hops",
            484 => "Address Incomplete",
            485 => "Ambiguous",
            486 => "Busy Here",
            487 => "Request Terminated",
            488 => "Not Acceptable Here",
            489 => "Bad Event",
            491 => "Request Pending",
            493 => "Undecipherable",
            494 => "Security Agreement Required",
            500 => "Server Internal Error",
            501 => "Not Implemented",
            502 => "Bad Gateway",
            503 => "Service Unavailable",
            504 => "Server Time-out",
            505 => "Version Not Supported",
            513 => "Message Too Large",
            580 => "Precondition Failure",
            600 => "Busy Everywhere",
            603 => "Decline",
            604 => "Does Not Exist Anywhere",
            606 => "Not Acceptable",
            607 => "Unwanted",
            608 => "Rejected",
            _ => match self.class() {
                1 => "Session Progress",
                2 => "OK",
                3 => "Multiple Choices",
                4 => "Bad Request",
                5 => "Server Internal Error",
                _ => "Busy Everywhere",
            },
        }
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 3261 §8.1.3.2: an unknown code has the phrase of its class, an unknown 1xx that of 183.
    #[test]
    fn an_unknown_code_has_the_phrase_of_its_class() {
        for (code, phrase) in
            [(199, "Early Dialog Terminated"), (198, "Session Progress"), (299, "OK"), (499, "Bad Request")]
        {
            assert_eq!(Status(code).reason_phrase(), phrase);
        }
        assert_eq!(Status(699).reason_phrase(), "Busy Everywhere");
    }

    #[test]
    fn classes_are_told_by_the_first_digit() {
        assert!(Status(199).is_provisional() && !Status(199).is_final());
        assert!(Status(299).is_success() && Status(299).is_final());
        assert!(!Status(300).is_success() && Status(699).class() == 6);
    }
}
