import Archive
import FoundationEssentials
import Glibc
import NFVModel
import TestSupport
import Testing

@testable import NFVPackages

@Suite struct DescriptorTests {
  let examples = Built.project + "/examples"

  func read(_ folder: String) throws -> ReadPackage {
    try PackageReader.read(try PackageFiles(folder: folder))
  }

  @Test func theFirewallIsRead() throws {
    let package = try read(examples + "/firewall")
    #expect(package.diagnostics.isEmpty)
    let descriptor = package.descriptor
    #expect(descriptor.id == "firewall")
    guard case .array(let rules)? = descriptor.parameters["rules"]?.default else {
      Issue.record("the firewall has no rules")
      return
    }
    #expect(
      rules.count == 5
        && rules[1]
          == .object([
            "from": .string("left"), "protocol": .string("tcp"), "ports": .integer(5001),
            "action": .string("accept"),
          ])
    )
    let flavour = try #require(descriptor.flavour("container"))
    #expect(flavour.externalCpds.map(\.id) == ["left", "right"])
    let vdu = try #require(flavour.vdu("filter"))
    #expect(vdu.technology == .container)
    #expect(vdu.linuxCapabilities == ["NET_ADMIN"])
    #expect(vdu.forwards)
    #expect(vdu.cpds.map(\.mode) == [.router, .router])
    #expect(vdu.memoryBytes == 64_000_000)
    #expect(vdu.imagePath == "Files/firewall.tar")
    #expect(vdu.readiness.check == .command(["nft", "list", "table", "inet", "firewall"]))
    #expect(package.templates.keys.sorted() == ["Files/firewall.nft"])
  }

  /// Flavours as virtual machines beside the one as a container, which is taken where none is named.
  @Test(arguments: ["firewall", "responder", "nat44", "loadbalancer", "router"])
  func anExampleHasThreeForms(_ name: String) throws {
    let package = try read("\(examples)/\(name)")
    let flavours = package.descriptor.flavours
    #expect(flavours.map(\.id) == ["container", "unikernel", "tinyx"])
    let container = try #require(flavours.first?.vdus.first)
    let isSwift = container.addressOwner == .function
    #expect(isSwift == !["firewall", "responder"].contains(name))
    #expect(!isSwift || container.linuxCapabilities == ["NET_RAW"])
    for flavour in flavours {
      #expect(flavour.externalCpds.map(\.id) == flavours[0].externalCpds.map(\.id))
      #expect(flavour.scalingAspects == flavours[0].scalingAspects)
      let vdu = try #require(flavour.vdus.first)
      #expect(vdu.technology.rawValue == flavour.id)
      #expect(vdu.cpds.map(\.mode) == container.cpds.map(\.mode))
      #expect(vdu.forwards == container.forwards)
      #expect(vdu.addressOwner == (flavour.id == "unikernel" ? .function : container.addressOwner))
      #expect(vdu.files == (flavour.id == "unikernel" ? [] : container.files))
      #expect(vdu.imagePath.flatMap(package.files.recipe(of:)) != nil)
    }
    #expect(package.diagnostics.isEmpty)
  }

  @Test(arguments: [
    ("owner: function", "owner: nobody", "kernel or function"),
    ("add: NET_RAW", "add: NET_ADMIN", "NET_RAW"),
  ])
  func anOwnerOfAddressesThatCannotBeIsSaid(_ old: String, _ new: String, _ word: String) throws {
    let folder = try TemporaryFolder()
    try FileManager.default.copyItem(atPath: "\(examples)/nat44", toPath: folder.path + "/n")
    let path = "n/Definitions/nat44.yaml"
    let text = String(decoding: try folder.read(path), as: UTF8.self)
    try #require(text.contains(old))
    try folder.write(path, text.replacing(old, with: new))
    let errors = PackageProject(folder: folder.path + "/n").lint()
      .filter { $0.severity == .error }
    #expect(errors.contains { $0.message.contains(word) }, "\(errors)")
  }

  @Test func aUnikernelsAddressesAreItsOwn() throws {
    let folder = try TemporaryFolder()
    try FileManager.default.copyItem(atPath: "\(examples)/nat44", toPath: folder.path + "/n")
    let path = "n/Definitions/nat44.tinyx.yaml"
    let text = String(decoding: try folder.read(path), as: UTF8.self)
      .replacing("technology: tinyx", with: "technology: unikernel")
      .replacing("owner: function", with: "owner: kernel")
    try folder.write(path, text)
    let errors = PackageProject(folder: folder.path + "/n").lint()
    #expect(errors.contains { $0.message.contains("the owner of its addresses is the function") })
  }

  @Test func theMixedExampleHasBothTechnologies() throws {
    let package = try read("\(examples)/mixed")
    #expect(package.diagnostics.isEmpty)
    let flavour = try #require(package.descriptor.flavours.first)
    #expect(flavour.vdu("filter")?.technology == .tinyx)
    #expect(flavour.vdu("server")?.technology == .container)
    #expect(flavour.externalCpds.map(\.id) == ["outside"])
    let folder = try TemporaryFolder()
    var built: [String: Technology] = [:]
    try PackageProject(folder: "\(examples)/mixed").build(to: folder.path + "/mixed.csar") {
      recipe, technology, image throws(NFVError) in
      built[String(recipe.dropFirst(examples.count))] = technology
      do {
        try Data("image".utf8).write(to: URL(filePath: image))
      } catch {
        throw NFVError(.failed, "test", cause: error)
      }
    }
    #expect(built == ["/mixed/Files/filter.yaml": .tinyx, "/mixed/Files/server.yaml": .container])
  }

  /// A form's own recipe goes before the common one.
  @Test func anImageIsBuiltFromTheRecipeBesideIt() throws {
    let folder = try TemporaryFolder()
    for name in ["f.yaml", "f.unikernel.yaml", "g.yaml"] { try folder.write(name, "name: x") }
    let files = try PackageFiles(folder: folder.path)
    for (image, recipe) in [
      "f.tar": "f.yaml", "f.tinyx.tar": "f.yaml", "f.unikernel.tar": "f.unikernel.yaml",
      "g.unikernel.tar": "g.yaml", "h.tar": nil, "g.other.tar": nil, "g": nil,
    ] { #expect(files.recipe(of: image) == recipe, "\(image)") }
  }

  @Test func theResponderScales() throws {
    let flavour = try #require(try read(examples + "/responder").descriptor.flavours.first)
    let aspect = try #require(flavour.scalingAspects.first)
    #expect(aspect.maximumLevel == 3)
    #expect(aspect.instances(of: "server", at: 3) == 3)
    #expect(flavour.vdu("server")?.readiness.check == .network(.tcp(5001)))
  }

  /// The rules as the firewall's recipe gives them to nft.
  private func loaded(_ rules: String) throws -> String {
    let recipe = try String(
      contentsOfFile: examples + "/firewall/Files/firewall.yaml", encoding: .utf8)
    let script = try #require(recipe.firstMatch(of: /sed -E '(.*)' \/etc\/firewall.nft \| nft/)).1
    let folder = try TemporaryFolder()
    try folder.write("rules", rules)
    #expect(system("sed -E '\(script)' \(folder.path)/rules > \(folder.path)/loaded") == 0)
    return String(decoding: try folder.read("loaded"), as: UTF8.self)
  }

  @Test func templatesAreRenderedWithTheDocument() throws {
    let package = try read(examples + "/firewall")
    let template = try #require(package.templates["Files/firewall.nft"])
    let port = Port(
      id: "p", cpd: "left", externalCpd: "left", network: "n", mac: MACAddress(value: 1),
      addresses: [try #require(IPPrefix("10.0.0.2/24"))], mode: .router, mtu: 1500,
      interface: "eth0")
    let document = FunctionDocument(
      identity: .init(
        tenant: .default, vnfInstance: "i", vnfInstanceName: "fw", vnfc: "v", vdu: "filter",
        ordinal: 0, incarnation: 1),
      ports: [.init(port)],
      parameters: [
        "rules": .array([
          .object([
            "from": .string("left"), "protocol": .string("tcp"), "ports": .string("80-90"),
            "source": .string("10.0.0.0/8"), "action": .string("accept"),
          ]),
          .object([
            "protocol": .string("udp"), "sourcePorts": .integer(53), "ports": .string("1024-65535"),
            "action": .string("accept"),
          ]),
          .object([
            "protocol": .string("tcp"), "sourcePorts": .string("20-21"), "action": .string("drop"),
          ]),
          .object(["protocol": .string("icmp"), "action": .string("reject")]),
          .object(["destination": .string("10.1.0.1"), "action": .string("drop")]),
          .object([
            "source": .string("2001:db8::/32"), "destination": .string("fd00::1"),
            "action": .string("accept"),
          ]),
        ])
      ], generation: 1)
    let text = try PackageReader.render([template], document)[0]
    #expect(text.contains("define from_left = \"eth0\"\n"))
    // What a rule does not name is not taken from the document around it, such as its `ports`.
    let rules = try loaded(text).split(separator: "\n").map { $0.drop { $0 == " " } }.filter {
      $0.contains("goto")
    }
    #expect(
      rules == [
        "iifname $from_left meta l4proto $is_tcp ip saddr 10.0.0.0/8 th dport 80-90 goto on_accept",
        "meta l4proto $is_udp th sport 53 th dport 1024-65535 goto on_accept",
        "meta l4proto $is_tcp th sport 20-21 goto on_drop",
        "meta l4proto $is_icmp goto on_reject", "ip daddr 10.1.0.1 goto on_drop",
        "ip6 saddr 2001:db8::/32 ip6 daddr fd00::1 goto on_accept",
      ])
    #expect(try PackageReader.render(["{{port.left.ipv4}} <&>"], document) == ["10.0.0.2 <&>"])
  }

  /// `port` instead of `ports` would let every port pass.
  @Test func aRuleWithAMemberThatTheTemplateDoesNotKnowIsRefused() throws {
    let template = try String(
      contentsOfFile: examples + "/firewall/Files/firewall.nft", encoding: .utf8)
    func document(_ parameters: [String: JSONValue]) -> FunctionDocument {
      FunctionDocument(
        identity: .init(
          tenant: .default, vnfInstance: "i", vnfInstanceName: "fw", vnfc: "v", vdu: "filter",
          ordinal: 0, incarnation: 1), ports: [], parameters: parameters, generation: 1)
    }
    for (member, fits) in [("ports", true), ("port", false), ("goto", false), ("from", true)] {
      let document = document([
        "rules": .array([
          .object(["action": .string("drop")]),
          .object(["action": .string("accept"), member: .string("left")]),
        ])
      ])
      if fits {
        _ = try PackageReader.render([template], document)
      } else {
        let error = #expect(throws: NFVError.self) {
          try PackageReader.render([template], document)
        }
        #expect(error?.code == .unprocessable)
        #expect(
          error?.message.hasPrefix(
            "parameters.rules[1].\(member): there is no member of this name here; there are action, "
              + "destination, from") == true, "\(String(describing: error))")
      }
    }
    // A list of words, and one that the template passes on as a whole.
    let words = document([
      "names": .array([.string("a")]), "rest": .array([.object(["x": .null])]),
    ])
    #expect(
      try PackageReader.render(["{{#parameters.names}}<{{.}}>{{/parameters.names}}"], words)
        == ["<a>"])
    // However tags are written, in several sections and files; and a port of the document's is no member.
    let templates = [
      """
      {{# parameters.rules }}{{port.left.ipv4}}{{! note }}{{uppercased(action)}}{{#.from}}{{to}}{{/.from}}
      {{/ parameters.rules }}{{#parameters.rules}}{{{ports}}}{{/parameters.rules}}{{outside}}
      """, "{{#sorted(parameters.rules)}}{{.via.name}}{{/sorted(parameters.rules)}}",
    ]
    for (member, fits) in [
      ("action", true), ("from", true), ("to", true), ("ports", true), ("via", true),
      ("port", false),
      ("note", false), ("name", false), ("outside", false), ("uppercased", false),
    ] {
      let members = TemplateMembers(templates)
      let rules: [String: JSONValue] = ["rules": .array([.object([member: .integer(1)])])]
      if fits {
        try members.check(rules)
      } else {
        #expect(throws: NFVError.self, "\(member)") { try members.check(rules) }
      }
    }
  }

  /// A member that only the functions in Swift knew would be passed over for nftables.
  @Test func whatARuleHasIsRendered() throws {
    let source = try String(
      contentsOfFile: examples + "/../NetworkFunctions/Sources/Functions/FirewallRules.swift",
      encoding: .utf8)
    let template = try String(
      contentsOfFile: examples + "/firewall/Files/firewall.nft", encoding: .utf8)
    let members = source.matches(of: /name\.equals\("(\w+)"\)/).map(\.1)
    #expect(members.count == 7)
    for member in members {
      #expect(
        template.contains("{{#.\(member)}}") || template.contains("{{\(member)}}"), "\(member)")
    }
  }

  @Test func aNewPackageLintsAndBuildsReproducibly() throws {
    let folder = try TemporaryFolder()
    let project = PackageProject(folder: folder.path + "/hello")
    try project.create(name: "hello")
    #expect(project.lint().isEmpty)
    #expect(throws: NFVError.self) { try project.create(name: "hello") }
    var recipes: [String] = []
    for name in ["a", "b"] {
      try project.build(to: "\(folder.path)/\(name).csar") { recipe, _, image throws(NFVError) in
        recipes.append(recipe)
        do {
          try Data("image".utf8).write(to: URL(filePath: image))
        } catch {
          throw NFVError(.failed, "test", cause: error)
        }
      }
    }
    #expect(recipes.allSatisfy { $0.hasSuffix("Files/hello.yaml") } && recipes.count == 2)
    #expect(
      try Data(contentsOf: URL(filePath: folder.path + "/a.csar"))
        == Data(contentsOf: URL(filePath: folder.path + "/b.csar")))
    let package = try PackageReader.read(try PackageFiles(archive: folder.path + "/a.csar"))
    #expect(package.descriptor.id == "hello")
    #expect(package.imagePaths == ["Files/hello.tar"])
    let target = folder.path + "/out.tar"
    try package.extract("Files/hello.tar", to: target)
    #expect(try Data(contentsOf: URL(filePath: target)) == Data("image".utf8))
  }

  /// What of a function in Swift may be changed while it runs.
  @Test(arguments: [
    ("responder", []), ("router", []), ("firewall", ["flows", "flowsPerHost", "rules"]),
    ("nat44", ["flows", "flowsPerHost", "ports"]),
    ("loadbalancer", ["backends", "flows", "services"]),
    (
      "pipeline",
      [
        "backends", "flows", "flowsPerHost", "inside", "outside", "pipeline", "ports", "rules",
        "services",
      ]
    ),
  ])
  func aFunctionsPackageDeclaresWhatMayBeChanged(
    _ function: String, _ properties: [String]
  ) throws {
    let folder = try TemporaryFolder()
    let project = PackageProject(folder: folder.path + "/edge")
    try project.create(name: "edge", function: function)
    #expect(project.lint().map(\.description) == [])
    try project.build(to: folder.path + "/edge.csar") { (_, _, image) throws(NFVError) in
      do {
        try Data("image".utf8).write(to: URL(filePath: image))
      } catch {
        throw NFVError(.failed, "test", cause: error)
      }
    }
    let package = try PackageReader.read(try PackageFiles(archive: folder.path + "/edge.csar"))
    let declared = package.descriptor.modifiable.configurableProperties
    #expect(declared.keys.sorted() == properties)
    // None has a value before a client gives one: the function's own default counts.
    #expect(declared.values.allSatisfy { $0.default == .null })
  }

  /// It is refused at once, whatever it holds: somebody's home folder has many files.
  @Test func aFolderThatIsNoPackageIsNotRead() throws {
    let folder = try TemporaryFolder()
    defer { folder.remove() }
    try folder.write("deep/notes.txt", "x")
    // Whoever reads this waits for a writer.
    #expect(mkfifo(folder.path + "/deep/fifo", 0o600) == 0)
    let found = PackageProject(folder: folder.path).lint()
    #expect(found.map(\.description).first?.contains("martlet package init") == true, "\(found)")
    #expect(found.count == 1)
  }

  /// Each change to a good package is refused, at the right place, in words.
  @Test(arguments: [
    ("Vdu.OsContainerDeployableUnit", "Vdu.Unknown", "unknown type"),
    ("flavour_id: container", "flavour: container", "no flavour_id"),
    ("etsi_nfv_sol001_vnfd_types.yaml", "missing.yaml", "not in the package"),
    ("check: running", "check: telepathy", "check is"),
    ("virtual_binding: main", "virtual_link: nowhere", "bound to no VDU"),
    ("32 MB", "32 elephants", "no size"),
    ("descriptor_id: hello", "id: hello", "descriptor_id"),
    ("- container: main_container", "- container: other", "no OsContainer"),
    ("../Files/greeting.txt", "../Files/gone.txt", "not in the package"),
    ("org.martlet.readiness", "org.martlet.telepathy", "unknown"),
    ("topology_template:", "topology_template: [", "hello.yaml"),
  ])
  func aBadDescriptorIsRefused(from: String, to: String, message: String) throws {
    let folder = try TemporaryFolder()
    let project = PackageProject(folder: folder.path + "/hello")
    try project.create(name: "hello")
    let path = folder.path + "/hello/Definitions/hello.yaml"
    let text = try String(contentsOfFile: path, encoding: .utf8)
    #expect(text.contains(from))
    try text.replacing(from, with: to).write(toFile: path, atomically: false, encoding: .utf8)
    let found = project.lint()
    #expect(
      found.contains { $0.severity == .error && $0.description.contains(message) }, "\(found)")
    #expect(throws: NFVError.self) {
      try project.build(to: folder.path + "/x.csar") { _, _, _ throws(NFVError) in }
    }
    #expect(!FileManager.default.fileExists(atPath: folder.path + "/x.csar"))
  }

  @Test func exponentialAliasesAreRefused() throws {
    let folder = try TemporaryFolder()
    var bomb =
      "tosca_definitions_version: tosca_simple_yaml_1_3\na0: &a0 [x, x, x, x, x, x, x, x, x]\n"
    for level in 1...9 {
      let aliases = Array(repeating: "*a\(level - 1)", count: 9).joined(separator: ", ")
      bomb += "a\(level): &a\(level) [\(aliases)]\n"
    }
    try folder.write("bomb.yaml", bomb)
    let found = PackageProject(folder: folder.path).lint()
    #expect(found.contains { $0.message.contains("aliases") }, "\(found)")
  }

  @Test func damagedArchivesAreRefused() throws {
    let folder = try TemporaryFolder()
    try folder.write("text.csar", "this is no archive")
    func refusal(_ name: String) -> String {
      do throws(PackageError) {
        _ = try PackageReader.read(try PackageFiles(archive: "\(folder.path)/\(name)"))
        return ""
      } catch {
        return error.problem.message
      }
    }
    #expect(refusal("text.csar").contains("refused"))
    #expect(refusal("missing.csar").contains("refused"))
    func archive(_ name: String, _ entries: [(String, [UInt8])]) throws {
      let writer = try ArchiveWriter(path: "\(folder.path)/\(name)", format: .zip)
      for (path, content) in entries { try writer.add(file: path, content: content) }
      try writer.finish()
    }
    try archive("climbs.csar", [("../../etc/x", [1])])
    #expect(refusal("climbs.csar").contains("climbs"))
    try archive("twice.csar", [("a", [1]), ("a", [2])])
    #expect(refusal("twice.csar").contains("twice"))
    try archive(
      "hash.csar",
      [
        ("a.yaml", Array("tosca_definitions_version: x\n".utf8)),
        ("a.mf", Array("Source: a.yaml\nAlgorithm: SHA-256\nHash: 00ff\n".utf8)),
      ])
    #expect(refusal("hash.csar").contains("hash of a.yaml"))
    // More than the limit unpacked.
    try archive("bomb.csar", [("zeros", [UInt8](repeating: 0, count: 100_000))])
    do throws(PackageError) {
      _ = try PackageFiles(archive: folder.path + "/bomb.csar", limits: .init(bytes: 10_000))
      Issue.record("a bomb was read")
    } catch {
      #expect(error.problem.message.contains("limit"))
    }
  }
}
