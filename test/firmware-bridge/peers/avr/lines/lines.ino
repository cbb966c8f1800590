// lines: a weather station that tells its readings as text and has a lamp that can be switched.
// Path: avr.ts → [lines] → the serial port. Touches: an Arduino Uno.
//
//   says       ready                               once, after a reset
//              temperature=21.5 humidity=40        every 250 ms; the temperature goes up and down
//              led=on                              in answer to a command that it has carried out
//              error=unknown command=…             in answer to any other
//   is told    led=on, led=off

#include <avr/sleep.h>

static const unsigned long READING_MS = 250;
static const unsigned int COMMAND_BYTES_MAX = 40;

static String command;
static unsigned long told_ms;
static int tenths = 215;
static int step_tenths = 1;

void setup() {
  Serial.begin(115200);
  pinMode(LED_BUILTIN, OUTPUT);
  Serial.println("ready");
}

static void tell_reading() {
  tenths += step_tenths;
  if (tenths == 225 || tenths == 205) step_tenths = -step_tenths;
  Serial.print("temperature=");
  Serial.print(tenths / 10.0, 1);
  Serial.println(" humidity=40");
}

static void obey(const String &text) {
  if (text == "led=on" || text == "led=off") {
    digitalWrite(LED_BUILTIN, text == "led=on" ? HIGH : LOW);
    Serial.println(text);
  } else {
    Serial.println("error=unknown command=" + text);
  }
}

static void listen() {
  while (Serial.available()) {
    char byte = Serial.read();
    if (byte == '\n') {
      obey(command);
      command = "";
    } else if (byte != '\r' && command.length() < COMMAND_BYTES_MAX) {
      command += byte;
    }
  }
}

void loop() {
  listen();
  if (millis() - told_ms >= READING_MS) {
    told_ms += READING_MS;
    tell_reading();
  }
  sleep_mode();
}
