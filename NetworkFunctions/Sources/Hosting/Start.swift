import CHosted
public import Functions

/// The hosted form of a function: its document from `/run/martlet/config.json`, or from the file
/// that the first argument names; its ports are the interfaces that the document names.
public enum Hosting {
  /// Runs a function for ever, or says why it can't and gives the program's exit status.
  public static func run<F: NetworkFunction & ~Copyable>(
    _ function: consuming F, _ count: Int32,
    _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>
  ) -> Int32 {
    do throws(ConfigurationError) {
      let configuration = try readDocument(count > 1 ? arguments[1] : nil)
      var host = Host()
      try host.assign(configuration)
      try function.configure(configuration, in: &host)
      write("martlet: ready\n")
      let reason = host.run(&function)
      throw reason
    } catch {
      write("martlet: ")
      let text = error.text
      text.withUnsafeBufferPointer { octets in
        octets.withMemoryRebound(to: CChar.self) { CHosted_write($0.baseAddress, $0.count) }
      }
      write("\n")
      return 1
    }
  }

  private static func readDocument(
    _ path: UnsafeMutablePointer<CChar>?
  ) throws(ConfigurationError) -> Configuration {
    let limit = Configuration.maximumDocument + 1
    var octets = [UInt8](repeating: 0, count: limit)
    let usual: StaticString = "/run/martlet/config.json"
    let count = octets.withUnsafeMutableBufferPointer { buffer in
      if let path { return CHosted_read(path, buffer.baseAddress, limit) }
      return usual.utf8Start.withMemoryRebound(to: CChar.self, capacity: usual.utf8CodeUnitCount) {
        CHosted_read($0, buffer.baseAddress, limit)
      }
    }
    guard count >= 0 else { throw ConfigurationError("the document can't be read") }
    octets.removeLast(octets.count - count)
    return try Configuration(document: octets)
  }

  private static func write(_ text: StaticString) {
    text.utf8Start.withMemoryRebound(to: CChar.self, capacity: text.utf8CodeUnitCount) {
      CHosted_write($0, text.utf8CodeUnitCount)
    }
  }
}
