// swift-tools-version: 6.2
import PackageDescription

/// Every target: Swift 6 mode, warnings are errors, imports internal and explicit.
let settings: [SwiftSetting] = [
  .swiftLanguageMode(.v6),
  .treatAllWarnings(as: .error),
  .enableUpcomingFeature("ExistentialAny"),
  .enableUpcomingFeature("MemberImportVisibility"),
  .enableUpcomingFeature("InternalImportsByDefault"),
]

let system = Target.Dependency.product(name: "SystemPackage", package: "swift-system")
let crypto = Target.Dependency.product(name: "Crypto", package: "swift-crypto")
let logging = Target.Dependency.product(name: "Logging", package: "swift-log")
let serviceLifecycle = Target.Dependency.product(
  name: "ServiceLifecycle", package: "swift-service-lifecycle")
let arguments = Target.Dependency.product(
  name: "ArgumentParser", package: "swift-argument-parser")

/// The core and its simulator, in debug builds as well: unoptimised, millions of their steps spend
/// their time on generic metadata.
let optimised = [SwiftSetting.unsafeFlags(["-O"], .when(configuration: .debug))]

/// A library or executable of ours with the settings above.
func module(
  _ name: String, _ dependencies: [Target.Dependency], _ more: [SwiftSetting] = []
) -> Target {
  .target(name: name, dependencies: dependencies, swiftSettings: settings + more)
}

func tests(
  _ name: String, _ dependencies: [Target.Dependency], _ more: [SwiftSetting] = []
) -> Target {
  .testTarget(
    name: name, dependencies: dependencies + ["TestSupport"], swiftSettings: settings + more)
}

let package = Package(
  name: "martlet",
  products: [
    .executable(name: "martletd", targets: ["martletd"]),
    .executable(name: "martlet-hold", targets: ["martlet-hold"]),
    // Loaded into programs that the hold forks, from its own folder.
    .library(name: "martlet-zygote", type: .dynamic, targets: ["CZygote"]),
    .executable(name: "martlet-unpack", targets: ["martlet-unpack"]),
    .executable(name: "martlet-init", targets: ["martlet-init"]),
    .executable(name: "martlet", targets: ["martlet"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-system", from: "1.8.1"),
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
    .package(url: "https://github.com/apple/swift-crypto", from: "4.5.2"),
    .package(url: "https://github.com/apple/swift-http-types", from: "1.8.0"),
    .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
    .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
    .package(url: "https://github.com/groue/GRDB.swift", from: "7.10.0"),
    .package(
      url: "https://github.com/hummingbird-project/hummingbird", from: "2.28.1", traits: []),
    .package(url: "https://github.com/hummingbird-project/swift-mustache", from: "2.1.1"),
    .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
    .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
  ],
  targets: [
    // The host.
    .target(name: "CLinux"),
    // Without the Swift runtime: see the end of zygote.c.
    .target(
      name: "CZygote", dependencies: ["CLinux"], linkerSettings: [.unsafeFlags(["-nostartfiles"])]),
    module("LinuxSystem", ["CLinux", system]),
    module("Wire", []),
    module("HoldProtocol", ["LinuxSystem", "Wire", system]),
    .executableTarget(
      name: "martlet-hold", dependencies: ["HoldProtocol", "LinuxSystem", "Wire", system],
      swiftSettings: settings, linkerSettings: [.unsafeFlags(["-static-executable"])]),

    // Inside a virtual machine.
    module("ControlProtocol", ["Wire"]),
    module("GuestInit", ["ControlProtocol", "LinuxSystem", "Wire", system]),
    .executableTarget(
      name: "martlet-init", dependencies: ["GuestInit"],
      swiftSettings: settings,
      linkerSettings: [.unsafeFlags(["-static-executable", "-Xlinker", "--strip-all"])]),

    // The domain.
    module("NFVModel", [], optimised),

    // What comes in: archives, packages, images.
    .systemLibrary(
      name: "CArchive", pkgConfig: "libarchive", providers: [.apt(["libarchive-dev"])]),
    module("Archive", ["CArchive"]),
    module(
      "NFVPackages",
      [
        "NFVModel", "Archive", crypto, .product(name: "Yams", package: "Yams"),
        .product(name: "Mustache", package: "swift-mustache"),
      ]),
    module("NFVImages", ["NFVModel", "Archive", "LinuxSystem", crypto, system]),
    .executableTarget(
      name: "martlet-unpack", dependencies: ["NFVImages", "Archive", "LinuxSystem", system],
      swiftSettings: settings),

    // The ports' implementations.
    module("NFVStore", ["NFVModel", .product(name: "GRDB", package: "GRDB.swift")]),
    module("NFVNetwork", ["NFVModel", "LinuxSystem", system]),
    module(
      "NFVDrivers",
      [
        "NFVModel", "LinuxSystem", "HoldProtocol", "ControlProtocol", "Wire", system,
        .product(name: "NIOCore", package: "swift-nio"),
        .product(name: "NIOPosix", package: "swift-nio"),
      ]),

    // What runs and what is asked.
    module("NFVLifecycle", ["NFVModel", "NFVPackages", "LinuxSystem", logging, serviceLifecycle]),
    module(
      "NFVAPI",
      [
        "NFVModel", "NFVPackages", "NFVImages", "NFVLifecycle", "Archive", "LinuxSystem", logging,
        serviceLifecycle, system,
        .product(name: "Hummingbird", package: "hummingbird"),
        .product(name: "HTTPTypes", package: "swift-http-types"),
        .product(name: "NIOCore", package: "swift-nio"),
        .product(name: "NIOPosix", package: "swift-nio"),
      ]),
    module(
      "NFVClient",
      [
        .product(name: "NIOCore", package: "swift-nio"),
        .product(name: "NIOPosix", package: "swift-nio"),
        .product(name: "NIOHTTP1", package: "swift-nio"),
      ]),
    module("NFVBenchmark", ["NFVModel", "NFVClient", "LinuxSystem", system]),
    .executableTarget(
      name: "martletd",
      dependencies: [
        "NFVModel", "NFVPackages", "NFVImages", "NFVStore", "NFVNetwork", "NFVDrivers",
        "NFVLifecycle", "NFVAPI", "LinuxSystem", arguments, logging, serviceLifecycle, system,
        .product(name: "UnixSignals", package: "swift-service-lifecycle"),
      ], swiftSettings: settings),
    .executableTarget(
      name: "martlet",
      dependencies: [
        "NFVModel", "NFVPackages", "NFVImages", "NFVBenchmark", "NFVClient", "LinuxSystem",
        arguments, system, .product(name: "Yams", package: "Yams"),
      ], swiftSettings: settings),

    // What tests share. It has no tests: as a test target it stays out of a build for use.
    .testTarget(
      name: "TestSupport", dependencies: ["LinuxSystem", "NFVImages", system],
      swiftSettings: settings),
    tests("LinuxSystemTests", ["LinuxSystem", system]),
    tests("HoldTests", ["HoldProtocol", "LinuxSystem", "Wire", system]),
    tests("ControlProtocolTests", ["ControlProtocol", "Wire"]),
    tests(
      "GuestInitTests",
      [
        "GuestInit", "ControlProtocol", "NFVImages", "NFVModel", "Archive",
        "LinuxSystem", "Wire", system,
      ]),
    tests("NFVModelTests", ["NFVModel"], optimised),
    tests("NFVPackagesTests", ["NFVPackages", "NFVModel", "Archive"]),
    tests(
      "NFVImagesTests",
      ["NFVImages", "martlet-unpack", "NFVModel", "Archive", "LinuxSystem", system]),
    tests(
      "NFVStoreTests",
      ["NFVStore", "NFVModel", .product(name: "GRDB", package: "GRDB.swift")]),
    tests("NFVNetworkTests", ["NFVNetwork", "NFVModel", "LinuxSystem", system]),
    tests(
      "NFVDriversTests",
      [
        "NFVDrivers", "NFVImages", "NFVModel", "Archive", "LinuxSystem", "HoldProtocol",
        "ControlProtocol", "Wire", system,
      ]),
    tests(
      "NFVAPITests",
      [
        "NFVAPI", "NFVLifecycle", "NFVDrivers", "NFVStore", "NFVModel", "NFVPackages", "NFVImages",
        "NFVClient", "Archive", "LinuxSystem", logging, serviceLifecycle, system,
        .product(name: "Hummingbird", package: "hummingbird"),
        .product(name: "HTTPTypes", package: "swift-http-types"),
        .product(name: "NIOCore", package: "swift-nio"),
      ]),
    tests(
      "CommandLineTests",
      [
        "martlet", "NFVBenchmark", "NFVClient", "NFVModel",
        .product(name: "NIOCore", package: "swift-nio"),
        .product(name: "NIOPosix", package: "swift-nio"),
        .product(name: "NIOHTTP1", package: "swift-nio"),
      ]),
    tests("MartletdTests", ["martletd", "NFVModel", logging]),
    tests("NFVBenchmarkTests", ["NFVBenchmark", "LinuxSystem"]),
    tests("IntegrationTests", ["NFVBenchmark", "NFVClient", "LinuxSystem", system]),
  ]
)
