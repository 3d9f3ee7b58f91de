import Glibc
import HTTPTypes
import NFVModel
import TestSupport
import Testing

@testable import NFVAPI

@Suite struct AdmissionTests {
  private static let token = "0123456789abcdef0123456789abcdef"
  private static let path = "/martlet/v1/networks"

  @Test func tokenIsNeededOverTCP() async throws {
    try await Fixture.run(.token(Self.token)) { fixture in
      for (header, status) in [
        (nil, 401), ("Bearer wrong", 401), ("Bearer \(Self.token)x", 401), ("Bearer ", 401),
        ("Basic \(Self.token)", 401), ("Bearer \(Self.token)", 200), ("bearer \(Self.token)", 200),
      ] as [(String?, Int)] {
        var headers = HTTPFields()
        headers[.authorization] = header
        let reply = try await fixture.call(.get, Self.path, headers: headers)
        #expect(reply.status == status, "\(header ?? "")")
        if status == 401 {
          #expect(reply.headers[.wwwAuthenticate]?.hasPrefix("Bearer") == true)
          #expect(!reply.detail.isEmpty)
        }
      }
      for path in ["/livez", "/readyz"] {
        #expect(try await fixture.call(.get, path).status == 200)
      }
      #expect(try await fixture.call(.get, "/metrics").status == 401)
      #expect(try await fixture.call(.get, "/nothing").status == 401)
    }
  }

  @Test(
    arguments: [
      ("localhost", nil, 200), ("127.0.0.1:8080", nil, 200), ("[::1]:80", nil, 200),
      ("LOCALHOST:1", nil, 200), (nil, nil, 403), ("", nil, 403), ("evil.example", nil, 403),
      ("localhost.evil.example", nil, 403), ("127.0.0.1.evil", nil, 403), ("127.0.0.1:x", nil, 403),
      ("localhost", "http://localhost:3000", 200), ("localhost", "http://evil.example", 403),
      ("localhost", "null", 403),
    ] as [(String?, String?, Int)])
  func webPagesAreKeptAway(authority: String?, origin: String?, status: Int) async throws {
    for access in [Access.open, .token(Self.token)] {
      try await Fixture.run(access) { fixture in
        var headers: HTTPFields = [.authorization: "Bearer \(Self.token)"]
        headers[.origin] = origin
        let reply = try await fixture.call(
          .get, Self.path, headers: headers, authority: authority)
        #expect(reply.status == status)
      }
    }
  }

  @Test func socketNeedsNoToken() async throws {
    try await Fixture.run(.socket) { fixture in
      let reply = try await fixture.call(.get, Self.path, authority: "anything")
      #expect(reply.status == 200)
    }
  }

  @Test func tokensAreComparedWhole() {
    #expect(Access.areEqual("abc".utf8, "abc".utf8))
    #expect(!Access.areEqual("abd".utf8, "abc".utf8))
    #expect(!Access.areEqual("ab".utf8, "abc".utf8))
    #expect(!Access.areEqual("".utf8, "".utf8))
  }

  @Test func onlyLoopbackIsListenedOn() throws {
    #expect(try ListenAddress(loopback: "127.0.0.1:80") == .loopback(host: "127.0.0.1", port: 80))
    #expect(try ListenAddress(loopback: "[::1]:80") == .loopback(host: "::1", port: 80))
    for bad in ["0.0.0.0:80", "192.168.1.1:80", "*:80", "[::]:80", ":80"] {
      let error = #expect(throws: NFVError.self) { try ListenAddress(loopback: bad) }
      #expect(error?.code == .unprocessable && error?.message.contains("TLS") == true)
    }
    for bad in ["127.0.0.1", "127.0.0.1:99999", ""] {
      #expect(throws: NFVError.self) { try ListenAddress(loopback: bad) }
    }
  }

  @Test func tokenFileIsMadeOnceAndKeptSecret() throws {
    let folder = try TemporaryFolder()
    let path = "\(folder.path)/token"
    let token = try TokenFile.token(at: path)
    #expect(token.utf8.count == 64)
    #expect(try TokenFile.token(at: path) == token)
    #expect(access(path, F_OK) == 0)
    chmod(path, 0o644)
    let shown = #expect(throws: NFVError.self) { try TokenFile.token(at: path) }
    #expect(shown?.code == .forbidden && shown?.message.contains("chmod 640") == true)
    chmod(path, 0o600)
    let file = try #require(fopen(path, "w"))
    fputs("short\n", file)
    fclose(file)
    let short = #expect(throws: NFVError.self) { try TokenFile.token(at: path) }
    #expect(short?.code == .malformed)
    #expect(throws: NFVError.self) { try TokenFile.token(at: "\(folder.path)/none/token") }
  }
}
