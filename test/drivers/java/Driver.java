import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.sql.Array;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.List;
import java.util.Properties;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.postgresql.PGConnection;
import org.postgresql.PGNotification;
import org.postgresql.PGStatement;

/** One session of pgjdbc, driven by lines of JSON: see ../README.md. */
public final class Driver {
  private Connection connection;
  private PreparedStatement insert;

  public static void main(String[] arguments) throws Exception {
    Driver driver = new Driver();
    BufferedReader input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    for (String line = input.readLine(); line != null; line = input.readLine()) {
      String asked = text(line, "do");
      String answer;
      try {
        answer = driver.answer(asked, line);
      } catch (SQLException error) {
        answer =
            String.format(
                "{\"error\": {\"code\": %s, \"message\": %s, \"open\": %b}}",
                quoted(error.getSQLState()), quoted(error.getMessage()), driver.open());
      }
      System.out.println(answer);
      System.out.flush();
      if (asked.equals("close")) return;
    }
  }

  private String answer(String asked, String line) throws SQLException {
    switch (asked) {
      case "connect":
        connect(line);
        return "{\"ok\": true}";
      case "hold":
        hold(line);
        return "{\"ok\": true}";
      case "write":
        put(number(line, "number"));
        return "{\"ok\": true}";
      case "transaction":
        transaction(line);
        return "{\"ok\": true}";
      case "begin":
        connection.setAutoCommit(false);
        put(number(line, "number"));
        return "{\"ok\": true}";
      case "commit":
        connection.commit();
        connection.setAutoCommit(true);
        return "{\"ok\": true, \"tag\": \"COMMIT\"}";
      case "rollback":
        connection.rollback();
        connection.setAutoCommit(true);
        return "{\"ok\": true, \"tag\": \"ROLLBACK\"}";
      case "state":
        return state();
      case "heard":
        return heard();
      case "close":
        connection.close();
        return "{\"ok\": true}";
      default:
        throw new IllegalArgumentException("unknown request " + asked);
    }
  }

  private void connect(String line) throws SQLException {
    Properties properties = new Properties();
    properties.setProperty("user", text(line, "user"));
    properties.setProperty("password", text(line, "password"));
    properties.setProperty("connectTimeout", "10");
    properties.setProperty("loginTimeout", "10");
    String url =
        "jdbc:postgresql://" + text(line, "host") + ":" + number(line, "port") + "/" + text(line, "database");
    connection = DriverManager.getConnection(url, properties);
  }

  private void hold(String line) throws SQLException {
    try (Statement statement = connection.createStatement()) {
      statement.execute("set work_mem = '7MB'");
      statement.execute("listen " + text(line, "channel"));
    }
    try (PreparedStatement statement =
        connection.prepareStatement("select set_config('app.tenant', ?, false)")) {
      statement.setString(1, text(line, "tenant"));
      statement.execute();
    }
    insert = connection.prepareStatement("insert into " + text(line, "table") + " (n) values (?)");
    // Prepared on the server from its first use on, by name, and sent in binary.
    insert.unwrap(PGStatement.class).setPrepareThreshold(1);
  }

  private void put(long number) throws SQLException {
    insert.setLong(1, number);
    insert.executeUpdate();
  }

  private void transaction(String line) throws SQLException {
    connection.setAutoCommit(false);
    try {
      for (long number : numbers(line)) put(number);
      connection.commit();
    } catch (SQLException error) {
      if (open()) connection.rollback();
      throw error;
    } finally {
      if (open()) connection.setAutoCommit(true);
    }
  }

  private String state() throws SQLException {
    String query =
        "select current_setting('work_mem'), current_setting('app.tenant', true),"
            + " array(select pg_listening_channels()), inet_server_port(),"
            + " (select count(*) from pg_prepared_statements)";
    try (Statement statement = connection.createStatement();
        ResultSet row = statement.executeQuery(query)) {
      row.next();
      Array channels = row.getArray(3);
      List<String> names = new ArrayList<>();
      for (Object each : (Object[]) channels.getArray()) names.add(quoted(each.toString()));
      return String.format(
          "{\"work_mem\": %s, \"tenant\": %s, \"channels\": [%s], \"port\": %d, \"prepared\": %d, \"version\": %s}",
          quoted(row.getString(1)),
          quoted(row.getString(2)),
          String.join(", ", names),
          row.getInt(4),
          row.getInt(5),
          quoted("pgjdbc " + connection.getMetaData().getDriverVersion()));
    }
  }

  private String heard() throws SQLException {
    try (Statement statement = connection.createStatement()) {
      statement.execute("select 1");
    }
    List<String> payloads = new ArrayList<>();
    PGNotification[] notifications = connection.unwrap(PGConnection.class).getNotifications();
    if (notifications != null) for (PGNotification each : notifications) payloads.add(quoted(each.getParameter()));
    return "{\"payloads\": [" + String.join(", ", payloads) + "]}";
  }

  private boolean open() {
    try {
      return connection != null && !connection.isClosed();
    } catch (SQLException error) {
      return false;
    }
  }

  // The requests are flat objects of plain texts and numbers; that much JSON is read here.

  private static String text(String line, String key) {
    Matcher found = Pattern.compile("\"" + key + "\": ?\"([^\"\\\\]*)\"").matcher(line);
    if (!found.find()) throw new IllegalArgumentException(key + " is missing");
    return found.group(1);
  }

  private static long number(String line, String key) {
    Matcher found = Pattern.compile("\"" + key + "\": ?(\\d+)").matcher(line);
    if (!found.find()) throw new IllegalArgumentException(key + " is missing");
    return Long.parseLong(found.group(1));
  }

  private static List<Long> numbers(String line) {
    Matcher found = Pattern.compile("\"numbers\": ?\\[([\\d, ]*)\\]").matcher(line);
    if (!found.find()) throw new IllegalArgumentException("numbers is missing");
    List<Long> all = new ArrayList<>();
    for (String each : found.group(1).split(",")) all.add(Long.parseLong(each.trim()));
    return all;
  }

  private static String quoted(String value) {
    if (value == null) return "null";
    StringBuilder text = new StringBuilder("\"");
    for (char each : value.toCharArray())
      if (each == '"' || each == '\\') text.append('\\').append(each);
      else if (each < ' ') text.append(String.format("\\u%04x", (int) each));
      else text.append(each);
    return text.append('"').toString();
  }
}
