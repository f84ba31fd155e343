//! Every rule of the decoder, and a record for every reason to refuse one.

use super::*;

fn decoder(id: Option<&str>, time: Option<&str>, entity: Option<&str>) -> Decoder {
    let fields = [
        ("host", "string"),
        ("latency_ms", "double"),
        ("status", "bigint not null"),
        ("cached", "boolean"),
        ("born", "timestamp"),
        ("unused", "double"),
    ];
    let spec = EventSpec {
        id: id.map(str::to_owned),
        time: time.map(str::to_owned),
        entity: entity.map(str::to_owned),
        fields: fields.iter().map(|(n, t)| Field::parse(n, t).unwrap()).collect(),
        lateness_ms: 0,
        bytes_max: 400,
        depth_max: 3,
    };
    Decoder::new(&spec, &["latency_ms".into(), "host".into(), "cached".into(), "born".into()]).unwrap()
}

fn record(payload: &str) -> Record<'_> {
    Record { offset: 7, timestamp_ms: 1_000_000, key: Some(b"k1"), payload: Some(payload.as_bytes()) }
}

#[test]
fn fields_come_typed_and_in_the_order_of_the_inputs() {
    let payload = r#"{"x":{"y":[1,"\u00e9"]},"host":"a\nb","status":3.0,"latency_ms":12,"cached":true,"unused":"?",
        "ts":"1970-01-01T00:16:40Z","rid":"r-1","born":5.0}"#;
    let event = decoder(Some("rid"), Some("ts"), Some("host")).decode("t", 2, &record(payload)).unwrap();
    assert_eq!((&*event.id, event.time_ms, &*event.entity), ("r-1", 1_000_000, "a\nb"));
    let expected = [Value::Double(12.0), Value::Text("a\nb".into()), Value::Boolean(true), Value::Timestamp(5)];
    assert_eq!(event.fields, expected);
}

#[test]
fn kafka_fills_in_id_time_and_entity() {
    let plain = decoder(None, None, None);
    let event = plain.decode("t", 2, &record(r#"{"status":1,"latency_ms":1,"latency_ms":null}"#)).unwrap();
    assert_eq!((&*event.id, event.time_ms, &*event.entity), ("t-2-7", 1_000_000, "k1"));
    assert_eq!(event.fields, vec![Value::Null; 4], "the last of two equal keys wins");
    let keyless = Record { key: None, ..record(r#"{"status":1}"#) };
    assert_eq!(plain.decode("t", 2, &keyless).unwrap().entity, "");
    let by_number = decoder(Some("status"), None, Some("status")).decode("t", 0, &record(r#"{"status":404}"#)).unwrap();
    assert_eq!((&*by_number.id, &*by_number.entity), ("404", "404"));
    let timeless = Record { timestamp_ms: -1, ..record(r#"{"status":1}"#) };
    assert_eq!(plain.decode("t", 0, &timeless).unwrap_err().reason, Reason::BadTime);
}

#[test]
fn every_reason_has_its_record() {
    let deep = r#"{"a":{"b":{"c":[]}}}"#;
    let large = format!(r#"{{"a":"{}"}}"#, "x".repeat(400));
    let with = |rest: &str| format!(r#"{{"rid":"r","ts":1000,"host":"h","status":1,{rest}}}"#);
    let mut seen = std::collections::BTreeSet::new();
    for (payload, reason, says) in [
        (String::new(), Reason::Empty, "no payload"),
        (" \n".into(), Reason::Empty, "no payload"),
        (large, Reason::TooLarge, "at most 400"),
        (deep.into(), Reason::TooDeep, "more than 3 deep"),
        ("{".into(), Reason::BrokenJson, "EOF"),
        (with("}"), Reason::BrokenJson, "column"),
        (with(r#""x":1} {"#), Reason::BrokenJson, "trailing"),
        ("[1]".into(), Reason::NotAnObject, "sequence"),
        ("\"text\"".into(), Reason::NotAnObject, "string"),
        (
            with(r#""latency_ms":"12""#),
            Reason::WrongType,
            "field `latency_ms` is the text \"12\"; a double is expected",
        ),
        (with(r#""latency_ms":[1]"#), Reason::WrongType, "an array"),
        (with(r#""cached":1"#), Reason::WrongType, "a boolean is expected"),
        (with(r#""host":{}"#), Reason::WrongType, "an object"),
        (with(r#""status":1.5"#), Reason::WrongType, "a bigint is expected"),
        (r#"{"ts":1000,"host":"h","status":1}"#.into(), Reason::MissingField, "`rid`"),
        (with(r#""rid":null"#), Reason::MissingField, "`rid`"),
        (with(r#""status":null"#), Reason::MissingField, "`status`"),
        (with(r#""latency_ms":NaN"#), Reason::NotFinite, "NaN"),
        (with(r#""latency_ms": -Infinity"#), Reason::NotFinite, "Infinity"),
        (with(r#""latency_ms":"NaN""#), Reason::NotFinite, "finite"),
        (with(r#""latency_ms":"-infinity""#), Reason::NotFinite, "finite"),
        (with(r#""latency_ms":1e400"#), Reason::NotFinite, "too large"),
        (with(r#""latency_ms":-1.1e30"#), Reason::OutOfRange, "1e30"),
        (with(r#""status":9223372036854775808"#), Reason::OutOfRange, "64-bit"),
        (with(r#""born":"yesterday""#), Reason::BadTime, "RFC 3339"),
        (with(r#""ts":1e300"#), Reason::BadTime, "epoch"),
        (with(r#""ts":1300001"#), Reason::FromTheFuture, "1300001"),
    ] {
        let rejection = decoder(Some("rid"), Some("ts"), Some("host")).decode("t", 0, &record(&payload)).unwrap_err();
        assert_eq!(rejection.reason, reason, "{payload}: {}", rejection.detail);
        assert!(rejection.detail.contains(says), "{payload}: {}", rejection.detail);
        seen.insert(reason);
    }
    assert_eq!(seen.len(), Reason::ALL.len(), "a reason has no record");
    let decoder = decoder(Some("rid"), Some("ts"), Some("host"));
    assert!(decoder.decode("t", 0, &record(&with(r#""ts":1300000"#))).is_ok(), "exactly five minutes ahead is allowed");
    assert!(decoder.decode("t", 0, &Record { payload: None, ..record("") }).is_err());
}

#[test]
fn cells_obey_the_same_rules() {
    let decoder = decoder(None, Some("ts"), Some("host"));
    let mut asked = Vec::new();
    let event = decoder
        .decode_fields("t", 0, &record(""), &mut |field| {
            asked.push(field.name.clone());
            match field.kind {
                FieldType::String => Value::Text("h".into()),
                FieldType::Timestamp => Value::Text("1970-01-01T00:00:02Z".into()),
                FieldType::Double | FieldType::Bigint => Value::Double(4.0),
                FieldType::Boolean => Value::Null,
            }
        })
        .unwrap();
    assert_eq!(asked, ["latency_ms", "host", "cached", "born", "status", "ts"]);
    assert_eq!((event.time_ms, &*event.entity), (2_000, "h"));
    assert_eq!(event.fields[0], Value::Double(4.0));
    let refused = decoder.decode_fields("t", 0, &record(""), &mut |_| Value::Double(f64::NAN)).unwrap_err();
    assert_eq!(refused.reason, Reason::NotFinite);
}
