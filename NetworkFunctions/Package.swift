// swift-tools-version: 6.2
import PackageDescription

/// As the platform's targets. `Lifetimes`: a frame is a span, and what holds one says how long.
let settings: [SwiftSetting] = [
  .swiftLanguageMode(.v6),
  .treatAllWarnings(as: .error),
  .enableUpcomingFeature("ExistentialAny"),
  .enableUpcomingFeature("MemberImportVisibility"),
  .enableUpcomingFeature("InternalImportsByDefault"),
  .enableExperimentalFeature("Lifetimes"),
]

/// One a function, each a few lines that name it.
let programs = ["responder", "firewall", "nat44", "loadbalancer", "router", "pipeline"]

// Everything here compiles as ordinary Swift, which is how it is tested, and as Embedded Swift,
// which is how it is used. `Unikernel/` is a package of its own: it compiles for bare metal only.
let package = Package(
  name: "NetworkFunctions",
  products: [
    .library(name: "Packets", targets: ["Packets"]),
    .library(name: "Functions", targets: ["Functions"]),
    .library(name: "Replaying", targets: ["Replaying"]),
  ],
  targets: [
    .target(name: "Packets", swiftSettings: settings),
    .target(name: "Functions", dependencies: ["Packets"], swiftSettings: settings),
    .target(name: "CHosted"),
    .target(
      name: "Hosting", dependencies: ["CHosted", "Functions", "Packets"], swiftSettings: settings),
    .target(
      name: "TestFrames", dependencies: ["Packets"], path: "Tests/TestFrames",
      swiftSettings: settings),
    .testTarget(
      name: "PacketsTests", dependencies: ["Packets", "TestFrames"], swiftSettings: settings),
    .testTarget(
      name: "FunctionsTests", dependencies: ["Functions", "Packets", "Replaying", "TestFrames"],
      swiftSettings: settings),
    .target(name: "Replaying", dependencies: ["Functions", "Packets"], swiftSettings: settings),
    .executableTarget(
      name: "replay", dependencies: ["CHosted", "Functions", "Replaying"], path: "Tests/replay",
      swiftSettings: settings + [.unsafeFlags(["-parse-as-library"])]),
  ]
    + programs.map {
      .executableTarget(
        name: $0, dependencies: ["Functions", "Hosting"],
        swiftSettings: settings + [.unsafeFlags(["-parse-as-library"])])
    }
)
