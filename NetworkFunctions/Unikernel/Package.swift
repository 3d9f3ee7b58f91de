// swift-tools-version: 6.2
import PackageDescription

// Bare metal only, by `make`; see ../Makefile. `NetworkFunctions` one folder up is what it runs.
let settings: [SwiftSetting] = [
  .swiftLanguageMode(.v6),
  .treatAllWarnings(as: .error),
  .enableUpcomingFeature("ExistentialAny"),
  .enableUpcomingFeature("MemberImportVisibility"),
  .enableUpcomingFeature("InternalImportsByDefault"),
  .enableExperimentalFeature("Lifetimes"),
]

/// One a function, each a few lines that name it.
let images = ["responder", "firewall", "nat44", "loadbalancer", "router", "pipeline"]
/// `faults` is what `../check` breaks, `replay` what `ReplayTests` compares with the other builds.
let tests = ["faults", "replay"]

let package = Package(
  name: "Unikernel",
  dependencies: [.package(name: "NetworkFunctions", path: "..")],
  targets: [
    .target(name: "Boot"),
    .target(
      name: "Machine",
      dependencies: [
        "Boot", .product(name: "Packets", package: "NetworkFunctions"),
        .product(name: "Functions", package: "NetworkFunctions"),
      ], swiftSettings: settings),
  ]
    + (images + tests).map {
      .executableTarget(
        name: $0,
        dependencies: [
          "Boot", "Machine", .product(name: "Functions", package: "NetworkFunctions"),
          .product(name: "Replaying", package: "NetworkFunctions"),
        ], path: tests.contains($0) ? "Tests/\($0)" : "Sources/\($0)",
        swiftSettings: settings)
    }
)
