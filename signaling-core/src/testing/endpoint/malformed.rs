//! What is no message, and what only looks like none.

use super::stage::{Host, say};
use crate::protocol::ErrorCode;

/// One of each kind, in a session that is `s`.
fn malformed(s: &str) -> Vec<(&'static str, String)> {
    let nested = |open: &str, close: &str, n| format!("{}1{}", open.repeat(n), close.repeat(n));
    let offer = |sdp: &str| format!(r#"{{"type":"offer","sessionId":"{s}","sdp":{sdp}}}"#);
    let texts = [
        ("nothing", ""),
        ("space", " \t\r\n"),
        ("null", "null"),
        ("a number", "5"),
        ("a text", r#""heartbeat""#),
        ("an array", r#"["heartbeat"]"#),
        ("an array in the order of the fields", r#"["offer","SESSION","v=0"]"#),
        ("an empty object", "{}"),
        ("half an object", "{"),
        ("half a message", r#"{"type":"heartbeat""#),
        ("half an escape", r#"{"type":"heartbeat\u00"#),
        ("trailing bytes", r#"{"type":"heartbeat"} x"#),
        ("a trailing NUL", "{\"type\":\"heartbeat\"}\0"),
        ("a leading NUL", "\0{\"type\":\"heartbeat\"}"),
        ("a BOM", "\u{feff}{\"type\":\"heartbeat\"}"),
        ("a no-break space", "\u{a0}{\"type\":\"heartbeat\"}"),
        ("two messages", r#"{"type":"heartbeat"}{"type":"heartbeat"}"#),
        ("two messages in two lines", "{\"type\":\"heartbeat\"}\n{\"type\":\"heartbeat\"}"),
        ("a trailing comma", r#"{"type":"heartbeat",}"#),
        ("a comment", r#"{"type":"heartbeat"/**/}"#),
        ("a key without quotes", r#"{type:"heartbeat"}"#),
        ("single quotes", "{'type':'heartbeat'}"),
        ("NaN", r#"{"type":"heartbeat","id":NaN}"#),
        ("a number with a plus", r#"{"type":"heartbeat","id":+1}"#),
        ("a hexadecimal number", r#"{"type":"heartbeat","id":0x1}"#),
        ("a number with a leading zero", r#"{"type":"heartbeat","id":01}"#),
        ("no type", r#"{"sessionId":"SESSION","sdp":"v=0"}"#),
        ("a type in capitals", r#"{"type":"Heartbeat"}"#),
        ("a key in capitals", r#"{"Type":"heartbeat"}"#),
        ("an unknown type", r#"{"type":"hello"}"#),
        (
            "a server's message",
            r#"{"type":"match-found","sessionId":"SESSION","partnerId":"ann","isInitiator":true}"#,
        ),
        ("another server's message", r#"{"type":"partner-disconnected","sessionId":"SESSION"}"#),
        ("a type that is null", r#"{"type":null}"#),
        ("a type that is a number", r#"{"type":1}"#),
        ("a type that is an array", r#"{"type":["heartbeat"]}"#),
        ("a type that is an object", r#"{"type":{"offer":null}}"#),
        ("a type with a NUL", r#"{"type":"heartbeat\u0000"}"#),
        ("a type that is a lone surrogate", r#"{"type":"\ud800"}"#),
        ("the type twice", r#"{"type":"heartbeat","type":"heartbeat"}"#),
        ("the type twice, once escaped", r#"{"type":"heartbeat","\u0074ype":"heartbeat"}"#),
        ("a session that is null", r#"{"type":"heartbeat","sessionId":null}"#),
        ("a session that is a number", r#"{"type":"heartbeat","sessionId":7}"#),
        ("a session that is an array", r#"{"type":"leave","sessionId":["SESSION"]}"#),
        ("an empty session", r#"{"type":"leave","sessionId":""}"#),
        ("a session with a space", r#"{"type":"leave","sessionId":"SESSION "}"#),
        ("a session with a lone surrogate", r#"{"type":"leave","sessionId":"\udfff"}"#),
        ("no session", r#"{"type":"leave"}"#),
        ("the session twice", r#"{"type":"leave","sessionId":"SESSION","sessionId":"SESSION"}"#),
        (
            "the session twice, once escaped",
            r#"{"type":"leave","sessionId":"x","session\u0049d":"SESSION"}"#,
        ),
        ("an id that is a text", r#"{"type":"heartbeat","id":"1"}"#),
        ("an id that is null", r#"{"type":"heartbeat","id":null}"#),
        ("the id twice", r#"{"type":"heartbeat","id":1,"id":1}"#),
        ("an offer without a session", r#"{"type":"offer","sdp":"v=0"}"#),
        ("an offer without an sdp", r#"{"type":"offer","sessionId":"SESSION"}"#),
        ("an offer with a candidate", r#"{"type":"offer","sessionId":"SESSION","candidate":""}"#),
        ("an sdp that is null", r#"{"type":"offer","sessionId":"SESSION","sdp":null}"#),
        ("an sdp that is an array", r#"{"type":"offer","sessionId":"SESSION","sdp":["v=0"]}"#),
        ("an sdp that is a number", r#"{"type":"answer","sessionId":"SESSION","sdp":0}"#),
        ("an sdp that is true", r#"{"type":"answer","sessionId":"SESSION","sdp":true}"#),
        ("the sdp twice", r#"{"type":"offer","sessionId":"SESSION","sdp":"a","sdp":"b"}"#),
        (
            "the sdp twice, once escaped",
            r#"{"type":"offer","sessionId":"SESSION","sdp":"a","\u0073dp":"b"}"#,
        ),
        (
            "a line break in the sdp",
            "{\"type\":\"offer\",\"sessionId\":\"SESSION\",\"sdp\":\"a\nb\"}",
        ),
        ("a NUL in the sdp", "{\"type\":\"offer\",\"sessionId\":\"SESSION\",\"sdp\":\"a\0b\"}"),
        ("an unknown escape in the sdp", r#"{"type":"offer","sessionId":"SESSION","sdp":"\x41"}"#),
        ("a broken object as sdp", r#"{"type":"offer","sessionId":"SESSION","sdp":{"a"}}"#),
        ("a broken unknown field", r#"{"type":"heartbeat","x":{"a":}}"#),
        (
            "a candidate that is a number",
            r#"{"type":"ice-candidate","sessionId":"SESSION","candidate":1}"#,
        ),
        (
            "a candidate that is false",
            r#"{"type":"ice-candidate","sessionId":"SESSION","candidate":false}"#,
        ),
        (
            "a candidate that is an array",
            r#"{"type":"ice-candidate","sessionId":"SESSION","candidate":[]}"#,
        ),
        ("no candidate", r#"{"type":"ice-candidate","sessionId":"SESSION"}"#),
    ];
    let made = [
        ("30,000 arrays", nested("[", "]", 30_000)),
        ("30,000 arrays, none closed", "[".repeat(30_000)),
        ("9,000 objects", nested(r#"{"a":"#, "}", 9_000)),
        ("an sdp of 10,000 objects", offer(&nested(r#"{"a":"#, "}", 10_000))),
        ("an sdp with 30,000 arrays", offer(&format!(r#"{{"a":{}}}"#, nested("[", "]", 30_000)))),
        ("an sdp of objects, none closed", offer(&r#"{"a":"#.repeat(10_000))),
        (
            "a session of 129 characters",
            format!(r#"{{"type":"leave","sessionId":"{}"}}"#, "s".repeat(129)),
        ),
        ("a key of 60,000 characters", format!(r#"{{"{}":1}}"#, "k".repeat(60_000))),
        ("a number of 60,000 digits", "1".repeat(60_000)),
        ("10,000 fields", format!("{{{}}}", vec![r#""a":1"#; 10_000].join(","))),
    ];
    let texts = texts.map(|(what, text)| (what, text.replace("SESSION", s)));
    texts.into_iter().chain(made).collect()
}

pub(super) async fn what_is_no_message_is_answered_and_the_connection_goes_on(host: &Host) {
    let stage = host.start().await;
    let mut call = stage.call().await;
    call.talk().await;
    let texts = malformed(&call.session);
    assert!(texts.len() >= 30);
    for (what, text) in texts {
        call.ann.rename(format!("ann, who sent {what}"));
        call.ann.send(text).await;
        call.ann.expect_error(ErrorCode::Malformed, None).await;
        call.ann.expect_nothing().await;
    }
    let binaries: [&[u8]; 4] = [b"", b"{\"type\":\"heartbeat\"}", &[0xff, 0x00], &[0; 60_000]];
    for binary in binaries {
        call.ann.rename(format!("ann, who sent {} bytes of binary", binary.len()));
        call.ann.send_binary(binary).await;
        call.ann.expect_error(ErrorCode::Malformed, None).await;
        call.ann.expect_nothing().await;
    }
    call.ann.rename("ann");
    call.bob.expect_nothing().await;
    call.talk().await;
}

pub(super) async fn what_looks_odd_is_accepted(host: &Host) {
    let stage = host.start().await;
    let mut call = stage.call().await;
    let deep = "[".repeat(5000) + &"]".repeat(5000);
    let ann = &mut call.ann;
    for text in [
        " \t\r\n{ \"type\" : \"heartbeat\" }\r\n".to_owned(),
        r#"{"id":1,"type":"heartbeat"}"#.to_owned(),
        r#"{"\u0074\u0079pe":"h\u0065artbeat","id":1}"#.to_owned(),
        r#"{"type":"heartbeat","unknown":{"type":"offer","sdp":[1,2]},"id":1}"#.to_owned(),
        r#"{"type":"heartbeat","unknown":1,"unknown":2,"id":1}"#.to_owned(),
        r#"{"type":"heartbeat","sdp":5,"candidate":false,"id":1}"#.to_owned(),
        r#"{"type":"heartbeat","x":"\ud800","id":1}"#.to_owned(),
        r#"{"type":"heartbeat","x":1e999999,"id":1}"#.to_owned(),
        format!(r#"{{"type":"heartbeat","x":{deep},"id":1}}"#),
    ] {
        ann.send(&text).await;
        if text.contains(r#""id""#) {
            ann.expect_text(r#"{"type":"heartbeat-ack","id":1}"#).await;
        }
        ann.expect_nothing().await;
    }
    // A session id in escapes is that session's.
    let escaped: String = call.session.bytes().map(|byte| format!("\\u{byte:04x}")).collect();
    let text = format!(r#"{{"type":"offer","sessionId":"{escaped}","sdp":""}}"#);
    say(&mut call.ann, &mut call.bob, &[text]).await;
    call.expect_nothing().await;
}
