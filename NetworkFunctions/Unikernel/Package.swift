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
    .executableTarget(
      name: "responder",
      dependencies: ["Machine", .product(name: "Functions", package: "NetworkFunctions")],
      swiftSettings: settings),
  ]
)
