internal import NFVImages
internal import NFVModel
internal import Yams

extension ImageRecipe {
  /// Reads a recipe (YAML).
  /// - Throws: `notFound` where there is none, `malformed` with what is wrong in it.
  static func read(_ path: String) throws(NFVError) -> ImageRecipe {
    let text: String
    do {
      text = String(decoding: try readFile(path, limit: 1 << 20), as: UTF8.self)
    } catch {
      throw NFVError(.notFound, "the recipe \(path) cannot be read", cause: error)
    }
    let decoder = YAMLDecoder()
    let problem: String
    do {
      let whole = try decoder.decode([String: JSONValue].self, from: text)
      let unknown = whole.keys.sorted().first { !keys.contains($0) }
      guard let unknown else { return try decoder.decode(ImageRecipe.self, from: text) }
      problem = "there is no key \(unknown); a recipe has \(keys.joined(separator: ", "))"
    } catch let error as DecodingError {
      problem = Self.words(of: error)
    } catch {
      problem = "\(error)"
    }
    throw NFVError(.malformed, "\(path) is no recipe: \(problem) (docs/images.md)")
  }

  /// What is wrong, and at which key.
  private static func words(of error: DecodingError) -> String {
    func place(_ context: DecodingError.Context, _ last: [any CodingKey] = []) -> String {
      let keys = (context.codingPath + last).map { key in
        key.intValue.map { "[\($0)]" } ?? ".\(key.stringValue)"
      }
      let text = keys.joined()
      return text.isEmpty ? "the whole" : text.hasPrefix(".") ? String(text.dropFirst()) : text
    }
    switch error {
    case .keyNotFound(let key, let context): return "\(place(context, [key])) is missing"
    case .typeMismatch(let type, let context), .valueNotFound(let type, let context):
      let name = String(describing: type)
      let kind =
        name.contains("Sequence") || name.contains("Array")
        ? "a list"
        : name.contains("Mapping") || name.contains("Dictionary") ? "a mapping" : "a text"
      return "\(place(context)) must be \(kind)"
    case .dataCorrupted(let context):
      return context.underlyingError.map { "\($0)" } ?? context.debugDescription
    @unknown default: return "\(error)"
    }
  }
}
