use std::io;

use quick_xml::{
    Writer,
    events::{BytesDecl, BytesText, Event},
};

use super::{
    check::Verdict,
    report::{Case, Counts, Suite},
};

/// A report as `JUnit` XML: a suite for each service, a case for each check.
pub(super) fn xml(suites: &[Suite]) -> io::Result<Vec<u8>> {
    let mut writer = Writer::new_with_indent(Vec::new(), b' ', 2);
    writer.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
    let seconds = suites.iter().map(Suite::seconds).sum();
    let root = writer.create_element("testsuites").with_attributes(sums("quintet conformance", Counts::of(suites), seconds).as_pairs());
    root.write_inner_content(|writer| suites.iter().try_for_each(|suite| self::suite(writer, suite)))?;
    Ok(writer.into_inner())
}

fn suite(writer: &mut Writer<Vec<u8>>, suite: &Suite) -> io::Result<()> {
    let name = suite.service.full_name();
    let element = writer.create_element("testsuite").with_attributes(sums(name, suite.counts(), suite.seconds()).as_pairs());
    element.write_inner_content(|writer| suite.cases.iter().try_for_each(|case| self::case(writer, name, case)))?;
    Ok(())
}

fn case(writer: &mut Writer<Vec<u8>>, suite: &str, case: &Case) -> io::Result<()> {
    let (name, time) = (format!("{}: {}", case.rule, case.says), format!("{:.3}", case.took.as_secs_f64()));
    let element = writer.create_element("testcase").with_attributes([("classname", suite), ("name", &name), ("time", &time)]);
    match &case.verdict {
        None => element.write_empty()?,
        Some(Verdict::Skipped(reason)) => element.write_inner_content(|writer| {
            writer.create_element("skipped").with_attribute(("message", plain(reason).as_str())).write_empty()?;
            Ok(())
        })?,
        Some(Verdict::Failed(seen)) => element.write_inner_content(|writer| {
            let seen = plain(seen);
            let failure = writer.create_element("failure").with_attribute(("message", seen.as_str()));
            failure.write_text_content(BytesText::new(&format!("the contract says: {}\nseen: {seen}", case.says)))?;
            Ok(())
        })?,
    };
    Ok(())
}

/// The attributes of a sum of cases.
struct Sums([(&'static str, String); 5]);

fn sums(name: &str, counts: Counts, seconds: f64) -> Sums {
    let Counts { passed, failed, skipped } = counts;
    Sums([
        ("name", name.to_owned()),
        ("tests", (passed + failed + skipped).to_string()),
        ("failures", failed.to_string()),
        ("skipped", skipped.to_string()),
        ("time", format!("{seconds:.3}")),
    ])
}

impl Sums {
    fn as_pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (*name, value.as_str()))
    }
}

/// Text that XML can hold: a target may have answered with any characters.
fn plain(text: &str) -> String {
    text.chars()
        .map(|character| {
            if (character.is_control() && !matches!(character, '\t' | '\n')) || matches!(character, '\u{fffe}' | '\u{ffff}') {
                '\u{fffd}'
            } else {
                character
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use quick_xml::Reader;

    use super::{super::service::Service, *};

    #[test]
    fn whatever_was_seen_the_report_is_well_formed() {
        let case = |verdict| Case { rule: "K1", says: "<text> & \"more\"", verdict, took: Duration::from_millis(5) };
        let cases = vec![case(None), case(Some(Verdict::failed("\0 <a> ]]> \"&\""))), case(Some(Verdict::skipped("no 'model'")))];
        let xml = String::from_utf8(xml(&[Suite { service: Service::Text, cases }]).unwrap()).unwrap();
        let mut reader = Reader::from_str(&xml);
        let (mut cases, mut failures) = (0, 0);
        loop {
            match reader.read_event().unwrap() {
                Event::Eof => break,
                Event::Start(element) | Event::Empty(element) => {
                    element.attributes().for_each(|attribute| assert!(attribute.is_ok()));
                    cases += usize::from(element.name().as_ref() == b"testcase");
                    failures += usize::from(element.name().as_ref() == b"failure");
                }
                _ => (),
            }
        }
        assert_eq!((cases, failures), (3, 1));
        assert!(xml.contains(r#"tests="3" failures="1" skipped="1""#), "{xml}");
    }
}
