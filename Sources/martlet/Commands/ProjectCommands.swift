internal import ArgumentParser
internal import FoundationEssentials
internal import NFVImages
internal import NFVModel
internal import NFVPackages

/// Makes packages and images from sources on this machine; needs no daemon.
struct Project {
  /// The Debian package of a tiny machine's kernel; nil is the usual one.
  var kernel: String?
  /// The source of network functions; nil is the checkout around here.
  var source: String?
  /// Is told what takes long, before it begins.
  var tell: @Sendable (String) -> Void = { Console.current.note($0) }
  /// Is told of each of a package's images before it is built.
  var begin: @Sendable (Technology) -> Void = { _ in }

  /// Builds the image of a recipe.
  func buildImage(
    _ recipe: String, as technology: Technology, to output: String
  ) throws(NFVError) -> BuiltImage {
    let decoded = try ImageRecipe.read(recipe)
    let folder = recipe.split(separator: "/", omittingEmptySubsequences: false).dropLast()
    return try buildImage(
      decoded, in: folder.isEmpty ? "." : folder.joined(separator: "/"), as: technology,
      to: output)
  }

  /// Builds the image of a network function in Swift.
  func buildFunction(
    _ name: String, as technology: Technology, to output: String
  ) throws(NFVError) -> BuiltImage {
    var recipe = ImageRecipe(name: name)
    recipe.function = name
    return try buildImage(recipe, in: ".", as: technology, to: output)
  }

  private func buildImage(
    _ recipe: ImageRecipe, in folder: String, as technology: Technology, to output: String
  ) throws(NFVError) -> BuiltImage {
    var recipe = recipe
    if technology == .unikernel {
      guard let function = recipe.function else {
        throw NFVError(
          .unprocessable,
          "the recipe \(recipe.name) names no function; a unikernel is made of a network function in "
            + "Swift, such as `function: \(recipe.name)`")
      }
      return try ImageBuilder.buildUnikernel(try built(function, .unikernel), to: output)
    }
    if let function = recipe.function {
      recipe.add(functionProgram: try built(function, .program))
    }
    return try ImageBuilder.build(recipe, as: try form(technology), in: folder, to: output)
  }

  private func built(
    _ function: String, _ product: FunctionSource.Product
  ) throws(NFVError) -> String {
    try FunctionSource(source).build(function, as: product, progress: tell)
  }

  /// What images of a technology are built with.
  private func form(_ technology: Technology) throws(NFVError) -> ImageForm {
    switch technology {
    case .container: return .container
    case .tinyx:
      let package =
        if let kernel {
          try KernelPackage(package: kernel)
        } else {
          try KernelPackage.standard(progress: tell)
        }
      let program = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
      let folder = (program ?? "").split(separator: "/", omittingEmptySubsequences: false)
        .dropLast().joined(separator: "/")
      return .tinyx(kernel: package, initProgram: "\(folder)/martlet-init")
    case .unikernel, .standardvm:
      throw NFVError(
        .unprocessable,
        "images are built for container, tinyx and unikernel only; put one for "
          + "\(technology.rawValue) into the package")
    }
  }

  /// Builds, and shows on a terminal for how long it has.
  static func building<Answer: Sendable>(
    _ name: String, _ options: Project = Project(),
    _ body: @escaping @Sendable (Project) throws(Failure) -> Answer
  ) async throws(Failure) -> Answer {
    guard Console.current.drawsProgress else { return try body(options) }
    return try await Progress.show("build \(name)") { (progress) async throws(Failure) in
      var project = options
      project.tell = { words in progress.update { $0.detail = words } }
      project.begin = { technology in progress.update { $0.detail = technology.rawValue } }
      return try body(project)
    }
  }

  /// Builds a package's folder with its images.
  /// - Parameter built: is told of each image.
  func build(
    _ folder: String, to output: String,
    built: (Technology, BuiltImage) -> Void = { _, _ in }
  ) throws(Failure) {
    do throws(NFVError) {
      try PackageProject(folder: folder).build(to: output) {
        recipe, technology, image throws(NFVError) in
        begin(technology)
        built(technology, try buildImage(recipe, as: technology, to: image))
      }
    } catch {
      throw Failure(error)
    }
  }

  /// Tells what is doubtful in a package.
  static func warn(_ diagnostics: [PackageDiagnostic]) {
    for diagnostic in diagnostics where diagnostic.severity == .warning {
      Console.current.note(diagnostic.description)
    }
  }

  static func isFolder(_ path: String) -> Bool {
    var isFolder = false
    return FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) && isFolder
  }
}

extension Failure {
  init(_ error: NFVError) {
    let code: Code =
      switch error.code {
      case .malformed, .unprocessable, .tooLarge: .refused
      case .notFound: .notFound
      case .conflict: .conflict
      default: .failed
      }
    self.init(code, error.description)
  }
}

/// What `--form` names.
enum ImageFormOption: String, ExpressibleByArgument, CaseIterable {
  case container, tinyx, unikernel

  var technology: Technology {
    switch self {
    case .container: .container
    case .tinyx: .tinyx
    case .unikernel: .unikernel
    }
  }

  /// The archive that is written where none is named.
  func archive(_ stem: String) -> String {
    self == .container ? "\(stem).tar" : "\(stem).\(rawValue).tar"
  }
}

/// What images are built with.
struct BuildOptions: ParsableArguments {
  @Option(
    help: """
      A Debian package of a kernel for a tinyx (default: the newest in ~/.cache/martlet/kernels, or \
      Debian's cloud kernel by apt-get).
      """, completion: .file(extensions: ["deb"]))
  var kernel: String?

  @Option(
    help: ArgumentHelp(
      "The source of the network functions in Swift (default: the checkout around here).",
      valueName: "folder"), completion: .directory)
  var source: String?

  var project: Project { Project(kernel: kernel, source: source) }

  /// Says what was built.
  func report(_ image: BuiltImage, in output: String) {
    Console.current.print(image.digest.rawValue)
    let files = image.files.isEmpty ? "" : ", \(image.files.count) files"
    Console.current.note("\(output): \(octets(Int64(image.size)))\(files)")
  }
}

extension PackageCommand {
  struct Init: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Make a new package's folder, ready to be built and changed.",
      discussion: """
        With --function it is a package of a network function in Swift, with a flavour for each of \
        its forms: container, unikernel and tinyx.

        Examples:
          martlet package init hello
          martlet package init edge --function nat44
          martlet package build hello -o hello.csar
        """)

    @Argument(help: "The folder to make; its last part is the function's name.") var folder: String
    @Option(help: "The network function in Swift that it is of: nat44, router and so on.")
    var function: String?

    func run() throws {
      let name = folder.split(separator: "/").last.map(String.init) ?? folder
      do throws(NFVError) {
        if let function, !(try FunctionSource().names(.program)).contains(function) {
          throw NFVError(
            .notFound,
            "there is no network function \(function); there are "
              + (try FunctionSource()).names(.program).joined(separator: ", "))
        }
        try PackageProject(folder: folder).create(name: name, function: function)
      } catch {
        throw Failure(error)
      }
      Console.current.print(
        """
        \(folder)/Definitions/\(name).yaml   what it consists of
        \(folder)/Files/\(name).yaml         what its image is made of
        """)
      Console.current.note("Next: martlet vnf run \(folder)")
    }
  }

  struct Lint: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Check a package's folder or archive.",
      discussion: """
        Everything wrong is printed as FILE:LINE:COLUMN. Ends with 2 where there is an error.

        Example: martlet package lint examples/firewall
        """)

    @Argument(help: "A folder or a CSAR.", completion: .file()) var package: String

    func run() throws {
      try requirePackageFile(package)
      let found: [PackageDiagnostic]
      if Project.isFolder(package) {
        found = PackageProject(folder: package).lint()
      } else {
        do throws(PackageError) {
          found = try PackageReader.read(try PackageFiles(archive: package)).diagnostics
        } catch {
          found = error.diagnostics
        }
      }
      for diagnostic in found { Console.current.print(diagnostic.description) }
      let errors = found.count { $0.severity == .error }
      guard errors == 0 else {
        throw Failure(.refused, "\(package) has \(errors) error\(errors == 1 ? "" : "s")")
      }
      Console.current.note("\(package) is fine.")
    }
  }

  struct Build: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Build a CSAR with its images and manifest from a package's folder.",
      discussion: """
        An image NAME.tar that is not in the folder is built from the recipe NAME.yaml beside it, \
        NAME.tinyx.tar and NAME.unikernel.tar from the same or from one of their own; each in the \
        form of the VDU that names it. A recipe with `function: NAME` takes that network function \
        in Swift, in every form. The same sources give the same bytes.

        Examples:
          martlet package build examples/firewall -o firewall.csar
          martlet package build examples/nat44      # container, tinyx and unikernel in one package
        """)

    @Argument(help: "The package's folder.", completion: .directory) var folder: String
    @Option(name: .shortAndLong, help: "The CSAR to write (default: FOLDER.csar).")
    var output: String?
    @OptionGroup var options: BuildOptions

    func run() async throws {
      let name = folder.split(separator: "/").last.map(String.init) ?? "package"
      let output = output ?? "\(name).csar"
      Project.warn(PackageProject(folder: folder).lint())
      try await Project.building(name, options.project) { [folder] project throws(Failure) in
        try project.build(folder, to: output)
      }
      Console.current.print(output)
    }
  }
}

struct ImageCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "image",
    abstract: "Build small images from recipes, get others from registries.",
    discussion: """
      A recipe names programs of this host; the shared libraries that they need are found by \
      themselves. Example:

        name: echo
        programs: [ sh, cat ]
        entrypoint: [ /bin/sh, -c, "exec cat" ]
      """,
    subcommands: [Build.self, Pull.self])

  struct Pull: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Copy an image of a registry into an OCI archive, by skopeo.",
      discussion: """
        The archive can be a package's image file as it is.

        Example: martlet image pull docker://docker.io/library/alpine:3.20 alpine.tar
        """)

    @Argument(help: "docker://HOST/NAME:TAG.") var reference: String
    @Argument(help: "The OCI archive to write.", completion: .file()) var output: String

    func run() async throws {
      try await Progress.show("pull \(reference)") { [reference, output] _ throws(Failure) in
        do throws(NFVError) {
          try Registry.fetch(reference, to: output)
        } catch {
          throw Failure(error)
        }
      }
      Console.current.print(output)
    }
  }

  struct Build: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Build an image from a recipe.",
      discussion: """
        As a container it is an OCI image; as a tinyx it is a virtual machine's: a Linux kernel, and \
        the same programs in an initramfs; as a unikernel it is the function that the recipe names. \
        The same inputs give the same digest, which is printed.

        Examples:
          martlet image build examples/responder/Files/responder.yaml -o responder.tar
          martlet image build examples/responder/Files/responder.yaml --form tinyx
        """)

    @Argument(help: "The recipe (YAML).", completion: .file()) var recipe: String
    @Option(
      name: .shortAndLong,
      help: "The archive to write (default: RECIPE's name and .tar, or .FORM.tar).")
    var output: String?
    @Option(help: "What it is made into: container, tinyx or unikernel.")
    var form = ImageFormOption.container
    @OptionGroup var options: BuildOptions

    func run() async throws {
      let base = recipe.split(separator: "/").last.map(String.init) ?? recipe
      let stem = base.split(separator: ".").first.map(String.init) ?? base
      let output = output ?? form.archive(stem)
      let technology = form.technology
      let image = try await Project.building(stem, options.project) {
        [recipe] project throws(Failure) in
        do throws(NFVError) {
          return try project.buildImage(recipe, as: technology, to: output)
        } catch {
          throw Failure(error)
        }
      }
      options.report(image, in: output)
    }
  }
}

struct FunctionCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "function",
    abstract: "Make images of network functions that are written in Swift.",
    discussion: """
      One source becomes a container, a tiny Linux machine and a unikernel. The functions, and how \
      one writes another, are described in NetworkFunctions/README.md.
      """,
    subcommands: [Build.self])

  struct Build: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Build a function's image.",
      discussion: """
        As a container it is an OCI image with nothing but the function's static program; as a \
        tinyx the same program beside a Linux kernel; as a unikernel one file that a machine boots. \
        The functions are those of NetworkFunctions: responder, firewall, nat44, loadbalancer, \
        router, and pipeline, which is all of them. Building takes Swift, unless nothing has changed \
        since the last time. The same sources give the same digest, which is printed.

        A package takes a function by a recipe with `function: NAME`: see examples/nat44.

        Examples:
          martlet function build nat44 --form unikernel
          martlet function build firewall --form container -o firewall.tar
        """)

    @Argument(help: "The function.") var name: String
    @Option(help: "What it is made into: container, tinyx or unikernel.")
    var form = ImageFormOption.container
    @Option(
      name: .shortAndLong, help: "The archive to write (default: NAME.tar, or NAME.FORM.tar).")
    var output: String?
    @OptionGroup var options: BuildOptions

    func run() async throws {
      let output = output ?? form.archive(name)
      let technology = form.technology
      let image = try await Project.building(name, options.project) {
        [name] project throws(Failure) in
        do throws(NFVError) {
          return try project.buildFunction(name, as: technology, to: output)
        } catch {
          throw Failure(error)
        }
      }
      options.report(image, in: output)
    }
  }
}
