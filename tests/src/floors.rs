//! The dependency floors: each crate depends on crates of lower floors alone.

use std::collections::BTreeMap;

use cargo_metadata::{DependencyKind, MetadataCommand};

/// The floors, from the ground up. A new crate must be given its place here.
const FLOORS: [&[&str]; 5] = [
    &["quintet-proto", "quintet-onnx", "quintet-batching", "quintet-serving"],
    &["quintet-open-inference", "quintet-sources"],
    &["quintet-tokenization", "quintet-text", "quintet-image", "quintet-anomaly", "quintet-evaluation"],
    &["quintet"],
    &["quintet-tests"],
];

#[test]
fn dependencies_run_strictly_downward() {
    let metadata = MetadataCommand::new()
        .manifest_path(crate::harness::root().join("Cargo.toml"))
        .no_deps()
        .other_options(vec!["--offline".into()])
        .exec()
        .unwrap();
    let floors: BTreeMap<&str, usize> = FLOORS.iter().enumerate().flat_map(|(floor, names)| names.iter().map(move |name| (*name, floor))).collect();
    let mut faults = Vec::new();
    for package in &metadata.packages {
        let Some(floor) = floors.get(package.name.as_str()) else {
            faults.push(format!("{} has no floor", package.name));
            continue;
        };
        for dependency in package.dependencies.iter().filter(|dependency| dependency.kind != DependencyKind::Unknown) {
            if let Some(below) = floors.get(dependency.name.as_str())
                && below >= floor
            {
                faults.push(format!("{} (floor {floor}) depends on {} (floor {below})", package.name, dependency.name));
            }
        }
        let names_ort = package.dependencies.iter().any(|dependency| dependency.name == "ort");
        if names_ort && package.name.as_str() != "quintet-onnx" {
            faults.push(format!("{} names ort: only quintet-onnx may", package.name));
        }
        if package.name.as_str() == "quintet-onnx"
            && package.dependencies.iter().any(|dependency| matches!(dependency.name.as_str(), "tokio" | "prost" | "tonic"))
        {
            faults.push("quintet-onnx knows a protocol or an async runtime".to_owned());
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
    assert_eq!(metadata.packages.len(), floors.len());
}
