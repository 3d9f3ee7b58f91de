internal import Archive
internal import HTTPTypes
internal import Hummingbird
internal import LinuxSystem
internal import NFVModel
internal import NIOCore

/// SOL003 10.4.4 to 10.4.7: what is inside of an onboarded package.
extension VnfPackages {
  func registerContents(below base: String, on routes: inout Routes) {
    routes.on(
      .get, RouterPath("\(base)/package_content"),
      .content(["application/zip"], "Gives a VNF package's archive.")
    ) { _, context in
      try await file(try archive(context).path, context)
    }
    routes.on(
      .get, RouterPath("\(base)/manifest"),
      .content(["text/plain"], "Gives a VNF package's manifest.")
    ) { _, context in
      let archive = try archive(context)
      let manifest = try await catalogue.blocking { try archive.manifest() }
      return .text(String(decoding: manifest, as: UTF8.self))
    }
    routes.on(
      .get, RouterPath("\(base)/vnfd"),
      .content(["text/plain", "application/zip"], "Gives a VNF package's descriptor.")
    ) { call, context in
      try await vnfd(call, context)
    }
    routes.on(
      .get, RouterPath("\(base)/artifacts/**"),
      .content(["application/octet-stream"], "Gives a file of a VNF package.")
    ) { _, context in
      try await artifact(context)
    }
  }

  private func archive(_ context: CallContext) throws(NFVError) -> PackageArchive {
    let view = try named(context)
    guard view.package.content != nil else {
      throw NFVError(.conflict, "the package \(view.package.id) is not onboarded")
    }
    return PackageArchive(path: catalogue.path(of: view.package.id))
  }

  private func file(_ path: String, _ context: CallContext) async throws -> Reply {
    let body = try await FileIO().loadFile(path: path, context: context)
    return Reply(status: .ok, headers: [.contentType: "application/zip"], body: body)
  }

  /// One descriptor file as text; several, or where the caller wants it so, as an archive.
  private func vnfd(_ call: Call, _ context: CallContext) async throws -> Reply {
    let archive = try archive(context)
    let accepted = call.headers[.accept] ?? "*/*"
    let takesText = Endpoint.accepts(accepted, "text/plain")
    let takesZip = Endpoint.accepts(accepted, "application/zip")
    let files = try await catalogue.blocking { try archive.descriptors() }
    if takesText, files.count == 1 {
      return .text(String(decoding: files[0].content, as: UTF8.self))
    }
    guard takesZip else {
      throw Problem(
        .notAcceptable,
        "the descriptor has \(files.count) files; accept application/zip")
    }
    let bytes = try await catalogue.blocking {
      let target = archive.path + ".vnfd.\(UInt64.random(in: 0 ..< .max)).part"
      defer { try? removeFile(target) }
      try archive.writeDescriptors(to: target)
      return try readFile(target, limit: 64 << 20)
    }
    return Reply(
      status: .ok, headers: [.contentType: "application/zip"],
      body: ResponseBody(byteBuffer: ByteBuffer(bytes: bytes)))
  }

  private func artifact(_ context: CallContext) async throws -> Reply {
    let archive = try archive(context)
    let path = context.parameters.getCatchAll().joined(separator: "/")
    let name = path.removingPercentEncoding ?? path
    try await catalogue.blocking { _ = try archive.open(name) }
    return Reply(
      status: .ok, headers: [.contentType: "application/octet-stream"],
      body: ResponseBody { writer in
        try await catalogue.blocking {
          let reader = try archive.open(name)
          while true {
            let piece = try reader.read()
            if piece.isEmpty { break }
            try await writer.write(ByteBuffer(bytes: piece))
          }
        }
        try await writer.finish(nil)
      })
  }
}
