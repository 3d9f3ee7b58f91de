import CHosted
public import Functions

/// The hosted form of a function: `NAME [DOCUMENT [SOCKET]]`. It reads its document from
/// `/run/martlet/config.json`, or from the file that the first argument names, and anew at SIGHUP;
/// its ports are the interfaces that the document names. Its control channel listens at
/// `/run/martlet/control`, or where the second argument says. SIGTERM ends it.
public enum Hosting {
  private static let document: StaticString = "/run/martlet/config.json"
  private static let control: StaticString = "/run/martlet/control"

  /// Runs a function until somebody asks for the end, and gives the program's exit status: 1 where
  /// it can't run, and says why.
  public static func run<F: NetworkFunction & ~Copyable>(
    _ function: consuming F, _ count: Int32,
    _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>
  ) -> Int32 {
    let path = UnsafePointer(count > 1 ? arguments[1] : nil) ?? text(document)
    let socket = UnsafePointer(count > 2 ? arguments[2] : nil) ?? text(control)
    do throws(ConfigurationError) {
      var host = Host()
      let octets = try read(path)
      guard try host.waitForInterfaces(try Configuration(document: octets)) else { return 0 }
      var channel = Control(path: socket)
      if !channel.isListening { write("martlet: there is no control channel: can't listen\n") }
      try channel.configure(document: octets, &function, &host)
      write("martlet: ready\n")
      try host.run(&function, &channel) { function, channel, host in
        do throws(ConfigurationError) {
          try channel.configure(document: try read(path), &function, &host)
        } catch {
          tell(error)
        }
      }
      if channel.isListening { unlink(socket) }
      return 0
    } catch {
      tell(error)
      return 1
    }
  }

  private static func read(_ path: UnsafePointer<CChar>) throws(ConfigurationError) -> [UInt8] {
    let limit = Configuration.maximumDocument + 1
    var octets = [UInt8](repeating: 0, count: limit)
    let count = octets.withUnsafeMutableBufferPointer { CHosted_read(path, $0.baseAddress, limit) }
    guard count >= 0 else { throw ConfigurationError("the document can't be read") }
    octets.removeLast(octets.count - count)
    return octets
  }

  private static func tell(_ error: ConfigurationError) {
    write("martlet: ")
    error.text.withUnsafeBufferPointer { octets in
      octets.withMemoryRebound(to: CChar.self) { CHosted_write($0.baseAddress, $0.count) }
    }
    write("\n")
  }

  private static func write(_ words: StaticString) {
    CHosted_write(text(words), words.utf8CodeUnitCount)
  }

  /// A static string's octets; they end with a zero.
  private static func text(_ words: StaticString) -> UnsafePointer<CChar> {
    UnsafeRawPointer(words.utf8Start).assumingMemoryBound(to: CChar.self)
  }
}
