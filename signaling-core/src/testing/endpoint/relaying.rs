//! What the partner gets is what the sender wrote.

use super::stage::{Host, say};

/// Messages with the fields of the protocol and no others, in every way in which JSON can be
/// written.
fn odd(s: &str) -> Vec<String> {
    let texts = [
        r#"{"type":"offer","sessionId":"SESSION","sdp":"v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\n"}"#,
        r#"{"sdp":"","sessionId":"SESSION","type":"offer"}"#,
        " \t\r\n{\t\"sdp\"\n:\r\"a\" , \"type\" :\"offer\",\"sessionId\":\"SESSION\" }  \n",
        r#"{"type":"offer","sessionId":"SESSION","sdp":{ "b" : 1 ,	"a":[ ] }}"#,
        r#"{"\u0074ype":"o\u0066fer","sessionId":"SESSION","\u0073dp":"\u0076=0"}"#,
        r#"{"type":"offer","sessionId":"SESSION","sdp":"\/ \b \f \n \r \t \\ \" \u002f \u002F"}"#,
        r#"{"type":"offer","sessionId":"SESSION","sdp":"\ud83d\ude00 😀 é e\u0301 é \u2028  "}"#,
        r#"{"type":"offer","sessionId":"SESSION","sdp":"\ud800 \udfff \ude00\ud83d"}"#,
        r#"{"type":"offer","sessionId":"SESSION","sdp":{"\ud800":"\u0000"}}"#,
        r#"{"type":"offer","sessionId":"SESSION","sdp":{"a":1,"a":2,"a":{"a":3,"a":3}}}"#,
        r#"{"type":"offer","sessionId":"SESSION","sdp":{"n":[1e9999,-1E+2,-0,0.10,1.0,-0.0e-0]}}"#,
        r#"{"type":"offer","sessionId":"SESSION","sdp":{"n":123456789012345678901234567890.50}}"#,
        r#"{"type":"offer","sessionId":"SESSION","sdp":{"type":"leave","sessionId":"x","sdp":7}}"#,
        r#"{"type":"offer","sessionId":"SESSION","sdp":"} {\"type\":\"leave\"} \u007b"}"#,
        r#"{"type":"answer","sessionId":"SESSION","sdp":{"":null,"t":true,"f":false}}"#,
        r#"{"type":"ice-candidate","sessionId":"SESSION","candidate":null}"#,
        r#"{"type":"ice-candidate","sessionId":"SESSION","candidate":""}"#,
        r#"{"candidate" :  null ,"type":"ice-candidate","sessionId":"SESSION"}"#,
        r#"{"type":"ice-candidate","sessionId":"SESSION","candidate":{"candidate":"","sdpMid":"0","sdpMLineIndex":0,"usernameFragment":null}}"#,
    ];
    let deep = r#"{"a":"#.repeat(60) + "[1]" + &"}".repeat(60);
    let large = "\u{1F600}".repeat(16_000);
    texts
        .map(str::to_owned)
        .into_iter()
        .chain([
            format!(r#"{{"type":"offer","sessionId":"SESSION","sdp":{deep}}}"#),
            format!(r#"{{"type":"offer","sessionId":"SESSION","sdp":"{large}"}}"#),
            format!(r#"{{"type":"offer","sessionId":"SESSION","sdp":"{}"}}"#, "{[".repeat(5000)),
        ])
        .map(|text| text.replace("SESSION", s))
        .collect()
}

pub(super) async fn a_signal_arrives_byte_for_byte(host: &Host) {
    let stage = host.start().await;
    let mut call = stage.call().await;
    let texts = odd(&call.session);
    for text in &texts {
        let text = std::slice::from_ref(text);
        say(&mut call.ann, &mut call.bob, text).await;
        say(&mut call.bob, &mut call.ann, text).await;
    }
    call.expect_nothing().await;
    // Also what was kept for a while.
    let mut carl = stage.client("carl").await;
    let s = stage.open_new("carl", "dora").await;
    carl.expect_match(&s, "dora", true).await;
    let texts = odd(&s);
    let kept = &texts[..20];
    for text in kept {
        carl.send(text).await;
    }
    carl.expect_nothing().await;
    let mut dora = stage.connect("dora").await;
    dora.expect_match(&s, "carl", false).await;
    for text in kept {
        dora.expect_text(text).await;
    }
    dora.expect_nothing().await;
}

pub(super) async fn unknown_fields_are_left_out(host: &Host) {
    let mut call = host.start().await.call().await;
    let payload = r#"{ "b":1e9999,"a" : "\ud800\/","a":[ ]}"#;
    let s = call.session.clone();
    // What is left is strictly checked by the client: these fields, each once.
    for (sent, payload) in [
        (format!(r#"{{"type":"offer","from":"eve","sessionId":"{s}","sdp":{payload}}}"#), payload),
        (
            format!(r#"{{"type":"offer","sessionId":"{s}","sdp":{payload},"candidate":"c"}}"#),
            payload,
        ),
        (format!(r#"{{"id":1,"type":"answer","sessionId":"{s}","sdp":{payload}}}"#), payload),
        (
            format!(r#"{{"type":"ice-candidate","sessionId":"{s}","candidate":null,"sdp":""}}"#),
            "null",
        ),
        (
            format!(
                r#"{{"":0,"type":"ice-candidate","sessionId":"{s}","candidate":{payload},"":1}}"#
            ),
            payload,
        ),
        (
            format!(r#"{{"type":"offer","sessionId":"{s}","sdp":{payload},"x":{{"sdp":"y"}}}}"#),
            payload,
        ),
    ] {
        call.ann.send(&sent).await;
        let got = call.bob.next_text().await;
        assert!(got.contains(payload), "{sent} became {got}");
        for gone in ["eve", "from", r#""id""#, r#""c""#, r#""y""#, r#""""#] {
            assert!(!got.contains(gone), "{sent} became {got}");
        }
        let same = |kind: &str| sent.contains(kind) == got.contains(kind);
        for kind in [r#""offer""#, r#""answer""#, r#""ice-candidate""#] {
            assert!(same(kind), "{sent} became {got}");
        }
    }
    call.expect_nothing().await;
}
