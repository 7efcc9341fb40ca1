# Stands for the few of GitLab's models that a lab's scripts use, and runs such a script: ruby rails.rb FILE|CODE
# The database belongs to the process behind the socket; each call goes there.
require 'date'
require 'json'
require 'socket'

module ActiveRecord
  class RecordInvalid < StandardError; end
  class RecordNotFound < StandardError; end
end

module ActiveModel
  class UnknownAttributeError < NoMethodError; end
end

module Database
  PATIENCE_S = 30

  def self.call(name, **with)
    socket = connect
    socket.puts(JSON.generate('call' => name, 'with' => with))
    answer = JSON.parse(socket.gets)
    raise Object.const_get(answer['kind']), answer['error'] if answer['error']

    answer['result']
  ensure
    socket&.close
  end

  def self.connect
    limit = Time.now + PATIENCE_S
    begin
      UNIXSocket.new(ENV.fetch('STANDIN_SOCKET'))
    rescue SystemCallError => e
      raise "could not connect to the database: #{e.message}" if Time.now > limit

      sleep 0.2
      retry
    end
  end
end

class Duration
  def initialize(days)
    @days = days
  end

  def from_now
    DateTime.now + @days
  end

  def ago
    DateTime.now - @days
  end
end

class Integer
  def days
    Duration.new(self)
  end
  alias day days
end

class Date
  def self.current
    today
  end
end

module Gitlab
  module CurrentSettings
    def self.update!(**settings)
      Database.call('settings', **settings)
    end
  end
end

class PersonalAccessToken
  ATTRIBUTES = %w[id user_id name scopes expires_at revoked].freeze

  def self.find_by_token(value)
    row = Database.call('token', value: value)
    row && new(**row.slice(*ATTRIBUTES).transform_keys(&:to_sym))
  end

  def initialize(**attributes)
    @row = { 'revoked' => false }
    assign_attributes(**attributes)
  end

  def assign_attributes(**attributes)
    attributes.each do |name, value|
      unless ATTRIBUTES.include?(name.to_s)
        raise ActiveModel::UnknownAttributeError, "unknown attribute '#{name}' for PersonalAccessToken."
      end

      value = value.to_date if value.respond_to?(:to_date)
      @row[name.to_s] = name == :expires_at && value.is_a?(String) ? Date.parse(value) : value
    end
  end

  ATTRIBUTES.each { |name| define_method(name) { @row[name] } }

  def persisted?
    !id.nil?
  end

  def active?
    !revoked && (expires_at.nil? || expires_at > Date.current)
  end

  # GitLab never gives the value back; it only keeps what this sets.
  def set_token(value)
    @value = value
  end

  def save!
    row = @row.merge('expires_at' => expires_at&.iso8601, 'scopes' => scopes&.map(&:to_s))
    @row['id'] = Database.call('save', row: row, value: @value)['id']
    true
  end

  def update!(**attributes)
    assign_attributes(**attributes)
    save!
  end

  def revoke!
    update!(revoked: true)
  end
end

class Tokens
  include Enumerable

  def initialize(user, &filter)
    @user = user
    @filter = filter || ->(_token) { true }
  end

  def each(&)
    rows = Database.call('tokens', user_id: @user.id)
    rows.map { |row| PersonalAccessToken.new(**row.slice(*PersonalAccessToken::ATTRIBUTES).transform_keys(&:to_sym)) }
        .select(&@filter).each(&)
  end

  def active
    Tokens.new(@user) { |token| @filter.call(token) && token.active? }
  end

  def where(**wanted)
    Tokens.new(@user) { |token| @filter.call(token) && wanted.all? { |name, value| token.public_send(name) == value } }
  end

  def build(**attributes)
    PersonalAccessToken.new(user_id: @user.id, **attributes)
  end
  alias new build

  def create!(**attributes)
    build(**attributes).tap(&:save!)
  end
  alias create create!
end

class User
  attr_reader :id, :username, :name, :email

  def self.find_by(**wanted)
    row = Database.call('user', **wanted)
    row && new(row)
  end

  def self.find_by!(**wanted)
    find_by(**wanted) || raise(ActiveRecord::RecordNotFound, "Couldn't find User")
  end

  def self.find_by_username(username)
    find_by(username: username)
  end

  def initialize(row)
    @id, @username, @name, @email, @admin = row.values_at('id', 'username', 'name', 'email', 'admin')
  end

  def admin?
    @admin
  end

  def personal_access_tokens
    Tokens.new(self)
  end
end

script = ARGV.shift
if File.exist?(script)
  load script
else
  eval(script, TOPLEVEL_BINDING, 'runner') # rubocop:disable Security/Eval
end
