/// What this version of Martlet is called; its programs are of one release.
public enum Release {
  public static let version = "0.1.0"
}
