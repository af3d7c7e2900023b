use proptest::prelude::*;

use super::*;
use crate::wire::fixtures::framed;

fn compact(payload: &[u8]) -> (bytes::Bytes, bool) {
    (framed(payload), true)
}

fn plain(payload: &[u8]) -> (bytes::Bytes, bool) {
    (framed(payload), false)
}

#[test]
fn variable_length_numbers_end_at_32_bits() {
    let read = |payload: &[u8]| Reader::new(&framed(payload), true).unwrap().uvarint();
    assert_eq!(read(&[0]), Ok(0));
    assert_eq!(read(&[0x7f]), Ok(127));
    assert_eq!(read(&[0x80, 0x01]), Ok(128));
    assert_eq!(read(&[0xff, 0xff, 0xff, 0xff, 0x0f]), Ok(u32::MAX));
    for bad in [&[0xff, 0xff, 0xff, 0xff, 0x1f][..], &[0xff, 0xff, 0xff, 0xff, 0xff, 0x00], &[0x80], &[]] {
        assert!(read(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn null_and_empty_differ() {
    for ((frame, flexible), expected) in [
        (compact(&[0]), None),
        (compact(&[1]), Some(&b""[..])),
        (compact(&[3, b'h', b'i']), Some(&b"hi"[..])),
        (plain(&[0xff, 0xff]), None),
        (plain(&[0, 0]), Some(&b""[..])),
        (plain(&[0, 2, b'h', b'i']), Some(&b"hi"[..])),
    ] {
        let mut reader = Reader::new(&frame, flexible).unwrap();
        assert_eq!(reader.clone().nullable_string(), Ok(expected));
        assert_eq!(reader.string().is_ok(), expected.is_some());
    }
    for ((frame, flexible), expected) in [
        (compact(&[0]), None),
        (compact(&[2, 9]), Some(&[9][..])),
        (plain(&[0xff, 0xff, 0xff, 0xff]), None),
        (plain(&[0, 0, 0, 1, 9]), Some(&[9][..])),
    ] {
        assert_eq!(Reader::new(&frame, flexible).unwrap().nullable_bytes(), Ok(expected));
    }
    assert!(Reader::new(&framed(&[0xff, 0xfe]), false).unwrap().nullable_string().is_err());
}

#[test]
fn the_length_prefix_must_be_the_frames() {
    for frame in [&[0, 0, 0, 1][..], &[0, 0, 0, 1, 2, 3], &[0xff, 0xff, 0xff, 0xff], &[0, 0]] {
        assert!(Reader::new(frame, true).is_err(), "{frame:?}");
    }
    assert!(Reader::new(&[0, 0, 0, 0], true).is_ok());
}

#[test]
fn tagged_fields_are_located() {
    let frame = framed(&[3, 0, 1, 7, 5, 2, 8, 9, 9, 0, 42]);
    let mut reader = Reader::new(&frame, true).unwrap();
    let fields = reader.tagged_fields(Some(5)).unwrap();
    assert_eq!(fields.count, Count { len: 3, span: Span { start: 4, end: 5 } });
    assert_eq!(fields.found, Some(TaggedField { whole: Span { start: 8, end: 12 }, value: Span { start: 10, end: 12 } }));
    let mut value = reader.within(fields.found.unwrap().value);
    assert_eq!(value.raw(2), Ok(&[8, 9][..]));
    assert!(value.i8().is_err(), "a value ends where its length says");
    assert_eq!(reader.i8(), Ok(42));
}

/// What makes it safe to reserve room by a count: exactly those are accepted that could be true.
#[test]
fn a_count_is_held_against_what_is_left() {
    for left in 0..24usize {
        for count in 0..30u8 {
            let bytes = vec![0; left];
            let compact = framed(&[&[count + 1][..], &bytes].concat());
            let plain = framed(&[&[0, 0, 0, count][..], &bytes].concat());
            for element in 0..8usize {
                let fits = usize::from(count) * element.max(1) <= left;
                for (frame, flexible) in [(&compact, true), (&plain, false)] {
                    let counted = Reader::new(frame, flexible).unwrap().array(element);
                    assert_eq!(counted.map(|count| count.len).ok(), fits.then_some(usize::from(count)), "{count} × {element} in {left}");
                }
            }
            let tags = framed(&[&[count][..], &bytes].concat());
            let counted = Reader::new(&tags, true).unwrap().tagged_fields(None);
            assert_eq!(counted.is_ok(), usize::from(count) * 2 <= left, "{count} tagged fields in {left}");
        }
    }
    for hostile in [[0x7f, 0xff, 0xff, 0xff], [0x80, 0, 0, 0], [0xff, 0xff, 0xff, 0xfe]] {
        assert!(Reader::new(&framed(&hostile), false).unwrap().array(usize::MAX).is_err());
    }
    assert_eq!(Reader::new(&framed(&[0xff; 4]), false).unwrap().array(1).map(|count| count.len), Ok(0), "a null array is empty");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// What makes it safe to reserve room by a count.
    #[test]
    fn a_count_never_exceeds_what_is_left(bytes in proptest::collection::vec(any::<u8>(), 0..64), element in 0usize..40, flexible in any::<bool>()) {
        let frame = framed(&bytes);
        let mut reader = Reader::new(&frame, flexible).unwrap();
        if let Ok(count) = reader.array(element) {
            prop_assert!(count.len * element.max(1) <= frame.len() - reader.position() as usize);
        }
        let mut reader = Reader::new(&frame, flexible).unwrap();
        if let Ok(fields) = reader.tagged_fields(None) {
            prop_assert!(fields.count.len * 2 <= bytes.len());
        }
    }
}
