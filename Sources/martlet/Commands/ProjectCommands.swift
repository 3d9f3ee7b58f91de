internal import ArgumentParser
internal import FoundationEssentials
internal import NFVImages
internal import NFVModel
internal import NFVPackages
internal import Yams

/// Makes packages and images from sources on this machine; needs no daemon.
enum Project {
  /// What images of a technology are built with.
  /// - Parameter kernel: the Debian package of a virtual machine's; nil is the usual one.
  static func form(
    _ technology: Technology, kernel: String?
  ) throws(NFVError) -> ImageForm {
    switch technology {
    case .container: return .container
    case .tinyx:
      let package =
        if let kernel {
          try KernelPackage(package: kernel)
        } else {
          try KernelPackage.standard { Console.current.note($0) }
        }
      let program = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
      let folder = (program ?? "").split(separator: "/", omittingEmptySubsequences: false)
        .dropLast().joined(separator: "/")
      return .tinyx(kernel: package, initProgram: "\(folder)/martlet-init")
    case .unikernel, .standardvm:
      throw NFVError(
        .unprocessable,
        "images are built for container and tinyx only; put one for \(technology.rawValue) into the "
          + "package")
    }
  }

  /// Builds the image of a recipe.
  static func buildImage(
    _ recipe: String, as technology: Technology = .container, kernel: String? = nil,
    to output: String
  ) throws(NFVError) -> BuiltImage {
    let text: String
    do {
      text = try String(contentsOfFile: recipe, encoding: .utf8)
    } catch {
      throw NFVError(.notFound, "the recipe \(recipe) cannot be read", cause: error)
    }
    let decoded: ImageRecipe
    do {
      decoded = try YAMLDecoder().decode(ImageRecipe.self, from: text)
    } catch {
      throw NFVError(.malformed, "\(recipe) is no recipe; see docs/images.md", cause: error)
    }
    let folder = recipe.split(separator: "/", omittingEmptySubsequences: false).dropLast()
    return try ImageBuilder.build(
      decoded, as: try form(technology, kernel: kernel),
      in: folder.isEmpty ? "." : folder.joined(separator: "/"), to: output)
  }

  /// Builds a package's folder with its images.
  static func build(
    _ folder: String, kernel: String? = nil, to output: String
  ) throws(Failure) {
    do throws(NFVError) {
      try PackageProject(folder: folder).build(to: output) {
        recipe, technology, image throws(NFVError) in
        _ = try buildImage(recipe, as: technology, kernel: kernel, to: image)
      }
    } catch {
      throw Failure(error)
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
  case container, tinyx

  var technology: Technology { self == .tinyx ? .tinyx : .container }
}

/// How `--kernel` is explained.
private let kernelHelp: ArgumentHelp = """
  A Debian package of a kernel for a tinyx (default: the newest in ~/.cache/martlet/kernels, or \
  Debian's cloud kernel by apt-get).
  """

extension PackageCommand {
  struct Init: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Make a new package's folder, ready to be built and changed.",
      discussion: """
        Example:
          martlet package init hello
          martlet package build hello -o hello.csar
        """)

    @Argument(help: "The folder to make; its last part is the function's name.") var folder: String

    func run() throws {
      let name = folder.split(separator: "/").last.map(String.init) ?? folder
      do throws(NFVError) {
        try PackageProject(folder: folder).create(name: name)
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

  struct Build: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Build a CSAR with its images and manifest from a package's folder.",
      discussion: """
        An image NAME.tar that is not in the folder is built from the recipe NAME.yaml beside it, \
        and NAME.tinyx.tar from the same; each in the form of the VDU that names it. The same \
        sources give the same bytes.

        Example: martlet package build examples/firewall -o firewall.csar
        """)

    @Argument(help: "The package's folder.", completion: .directory) var folder: String
    @Option(name: .shortAndLong, help: "The CSAR to write (default: FOLDER.csar).")
    var output: String?
    @Option(help: kernelHelp, completion: .file(extensions: ["deb"])) var kernel: String?

    func run() throws {
      let name = folder.split(separator: "/").last.map(String.init) ?? "package"
      let output = output ?? "\(name).csar"
      try Project.build(folder, kernel: kernel, to: output)
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

  struct Pull: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Copy an image of a registry into an OCI archive, by skopeo.",
      discussion: """
        The archive can be a package's image file as it is.

        Example: martlet image pull docker://docker.io/library/alpine:3.20 alpine.tar
        """)

    @Argument(help: "docker://HOST/NAME:TAG.") var reference: String
    @Argument(help: "The OCI archive to write.", completion: .file()) var output: String

    func run() throws {
      do throws(NFVError) {
        try Registry.fetch(reference, to: output)
      } catch {
        throw Failure(error)
      }
      Console.current.print(output)
    }
  }

  struct Build: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Build an image from a recipe.",
      discussion: """
        As a container it is an OCI image; as a tinyx it is a virtual machine's: a Linux kernel, and \
        the same programs in an initramfs. The same inputs give the same digest, which is printed.

        Examples:
          martlet image build examples/responder/Files/responder.yaml -o responder.tar
          martlet image build examples/responder/Files/responder.yaml --form tinyx
        """)

    @Argument(help: "The recipe (YAML).", completion: .file()) var recipe: String
    @Option(
      name: .shortAndLong,
      help: "The archive to write (default: RECIPE's name and .tar, or .tinyx.tar).")
    var output: String?
    @Option(help: "What it is made into: container or tinyx.") var form = ImageFormOption.container
    @Option(help: kernelHelp, completion: .file(extensions: ["deb"])) var kernel: String?

    func run() throws {
      let base = recipe.split(separator: "/").last.map(String.init) ?? recipe
      let stem = base.split(separator: ".").first.map(String.init) ?? base
      let output = output ?? (form == .container ? "\(stem).tar" : "\(stem).\(form.rawValue).tar")
      do throws(NFVError) {
        let image = try Project.buildImage(recipe, as: form.technology, kernel: kernel, to: output)
        Console.current.print(image.digest.rawValue)
        Console.current.note(
          "\(output): \(octets(Int64(image.size))), \(image.files.count) files")
      } catch {
        throw Failure(error)
      }
    }
  }
}
