use ndarray::Array;
use ndarray_npy::NpzWriter;

use super::*;

fn deployed() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/datasets")
}

fn npz(path: &Path, write: impl FnOnce(&mut NpzWriter<std::fs::File>)) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut writer = NpzWriter::new(std::fs::File::create(path).unwrap());
    write(&mut writer);
    writer.finish().unwrap();
}

fn fault(path: &Path) -> String {
    Catalog::open(path, false).unwrap_err().to_string()
}

#[test]
fn the_deployed_data_sets_are_read_in_order_of_name() {
    let catalog = Catalog::open(&deployed(), false).unwrap();
    let names: Vec<&str> = catalog.all().iter().map(|dataset| dataset.name.as_str()).collect();
    assert!(names.is_sorted() && names.len() >= 5, "{names:?}");
    let glyphs = catalog.find(Kind::Images, "glyphs-heldout").unwrap();
    let Data::Images(images) = &glyphs.data else { panic!() };
    assert_eq!((images.shape, images.pixels.len()), ([1, 32, 32], glyphs.size() * 1024));
    assert_eq!((glyphs.id().as_str(), glyphs.sha256.len()), ("glyphs-heldout/images.npz", 64));
    let Data::Rows(rows) = &catalog.find(Kind::Rows, "digits-heldout").unwrap().data else { panic!() };
    assert_eq!((rows.width, rows.values.len()), (64, 64 * rows.anomalous.len()));
    assert!(catalog.find(Kind::Text, "").unwrap().size() > 10);
}

#[test]
fn unknown_names_come_with_the_known_ones_and_an_empty_name_needs_one_candidate() {
    let catalog = Catalog::open(&deployed(), false).unwrap();
    let unknown = catalog.find(Kind::Images, "digits-heldout").unwrap_err();
    assert!(matches!(unknown, Error::Unknown { .. }) && unknown.to_string().contains("glyphs-heldout"), "{unknown}");
    let several = catalog.find(Kind::Rows, "").unwrap_err();
    assert!(matches!(several, Error::Invalid(_)) && several.to_string().contains("digits-heldout"), "{several}");
}

#[test]
fn documents_are_separated_by_blank_lines() {
    assert_eq!(documents(b"a\nb\n\n\nc\r\n\r\nd\n".to_vec()).unwrap(), ["a\nb", "c", "d"]);
    assert!(documents(b"\n \n\n".to_vec()).is_err());
    assert!(documents(vec![0xff, b'a']).is_err());
}

#[test]
fn broken_data_sets_name_the_file_and_the_fault() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("bad/rows.npz");
    let rows = |labels: Vec<i64>| {
        npz(&path, |writer| {
            writer.add_array("x", &Array::<f32, _>::zeros((3, 2))).unwrap();
            writer.add_array("labels", &Array::from(labels)).unwrap();
        });
    };
    for (labels, words) in [(vec![0, 1], "must be [3]"), (vec![0, 1, 2], "2: must be 0"), (vec![0, 0, 0], "normals and anomalies")] {
        rows(labels);
        let fault = fault(root.path());
        assert!(fault.contains("rows.npz") && fault.contains(words), "{fault}");
    }
    rows(vec![0, 1, 0]);
    assert!(Catalog::open(root.path(), false).is_ok());
    std::fs::write(&path, "no archive").unwrap();
    assert!(fault(root.path()).contains("rows.npz"));
    assert!(Catalog::open(root.path(), true).unwrap().all().is_empty());
    std::fs::write(root.path().join("bad/text.txt"), "words").unwrap();
    assert!(fault(root.path()).contains("exactly one"));
}

#[test]
fn images_may_have_channels_and_must_have_labels() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("set/images.npz");
    let write = |labels: usize| {
        npz(&path, |writer| {
            writer.add_array("images", &Array::<u8, _>::zeros((2, 4, 5, 3))).unwrap();
            writer.add_array("labels", &Array::<i64, _>::zeros(labels)).unwrap();
        });
    };
    write(2);
    let catalog = Catalog::open(root.path(), false).unwrap();
    let Data::Images(images) = &catalog.find(Kind::Images, "").unwrap().data else { panic!() };
    assert_eq!(images.shape, [3, 4, 5]);
    write(1);
    assert!(fault(root.path()).contains("labels"));
}

#[test]
fn a_missing_folder_is_named() {
    assert!(fault(Path::new("/nowhere/datasets")).contains("/nowhere/datasets"));
    assert!(Catalog::open(Path::new("/nowhere/datasets"), true).unwrap().all().is_empty());
}
